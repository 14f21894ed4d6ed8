/* replica - what a master sends, mixed with changes of this store's own, housekeeping and stops: all that is read stays the same, wherever from. */
#include <criterion/criterion.h>
#include <errno.h>
#include <time.h>

#include "store/annot.h"
#include "t/store/replica_gen.h"

TestSuite(replica_model, .init = scratch_make, .fini = scratch_remove, .timeout = 300);

static struct err err;
static struct gen_uploads up;
static struct store *s;
static uint32_t x = 1;
static unsigned number;
#define NAME "user.joe"
#define MANY 400

static uint32_t roll(uint32_t n) { x = x * 1103515245 + 12345; return (x >> 8) % n; }

static void open_it(void)
{
        char conf[200];

        snprintf(conf, sizeof conf, "delete_mode: immediate\npartition-other: %s/other\n", scratch_dir);
        s = scratch_open(conf);
        up = (struct gen_uploads){ .s = s };
}

static void close_it(void)
{
        gen_uploads_end(&up);
        store_close(&s);
}

static void done(int rc, struct waiter *w)
{
        cr_assert_eq(rc, 0, "%s", err.text);
        cr_assert_eq(waiter_block(w, &err), 0, "%s", err.text);
}

/* All there is, as a request of a master. */
static struct arena arena;
static struct replica_record recs[20000];
static const char *const words[] = { "$a", "b", "$C", "dd" };
static struct annot notes[] = { { "/comment", "", { "one", 3 }, 0 }, { "/comment", "mary", { "three", 5 }, 0 }, { "/altsubject", "", { "", 0 }, 0 } };

static struct replica_apply take_all(void)
{
        struct replica_apply a = { .has = gen_has, .message = gen_message, .ctx = &up };
        struct replica_reader *r;
        int n;

        arena_reset(&arena);
        cr_assert_eq(replica_reader_open(s, NAME, 0, false, &arena, &a.values, &r, &err), 0, "%s", err.text);
        while ((n = replica_reader_next(r, 1000, &arena, recs + a.records_n, &err)) > 0)
                a.records_n += (uint32_t)n;
        cr_assert_eq(n, 0);
        replica_reader_close(&r);
        a.records = recs;
        return a;
}

static void master_changes(bool many, bool lower)
{
        struct replica_apply a = take_all();
        uint32_t n = a.records_n, fresh = many ? MANY : roll(6), uid = a.values.last_uid;

        a.values.highestmodseq += 1 + roll(5);
        for (uint32_t i = roll(30); i < n; i += 1 + roll(30)) {
                struct replica_record *rec = &recs[i];

                if (rec->flags & MSG_EXPUNGED)
                        continue;
                rec->flags = roll(32) & MSG_SYSTEM_FLAGS;
                rec->keywords = words + roll(3);
                rec->keywords_n = roll(3);
                rec->annots = notes + roll(3);
                rec->annots_n = rec->annots == notes + 2 ? 0 : roll(2);
                rec->thrid = roll(3) ? 0 : roll(1000);
                rec->internaldate += roll(3);
                rec->modseq = a.values.highestmodseq;
                if (roll(12) == 0)
                        rec->flags |= MSG_EXPUNGED;
        }
        for (uint32_t i = 0; i < fresh && n < ARRAY_LEN(recs); i++) {
                size_t size = many ? 4000 : roll(10) ? 300 : 70000;

                uid += 1 + roll(3);
                if (up.n == ARRAY_LEN(up.list))
                        gen_uploads_end(&up);
                recs[n] = gen_record(&up, uid, ++number, size, a.values.highestmodseq);
                gen_upload(&up, number, size);
                if (roll(4) == 0) {
                        recs[n].keywords = words + 1;
                        recs[n].keywords_n = 2;
                }
                if (roll(5) == 0) {
                        recs[n].annots = notes;
                        recs[n].annots_n = 2;
                }
                if (roll(6) == 0)
                        recs[n].flags = MSG_EXPUNGED | MSG_UNLINKED;
                n++;
        }
        a.records_n = n;
        a.values.last_uid = uid + roll(2) * 3;
        if (lower) {                            /* to what is needed */
                a.force = true;
                a.values.highestmodseq = 1;
                for (uint32_t i = 0; i < n; i++)
                        if (recs[i].modseq > a.values.highestmodseq)
                                a.values.highestmodseq = recs[i].modseq;
                a.values.last_uid = n ? recs[n - 1].uid : 0;
                a.values.uidvalidity -= roll(2);
        }
        a.values.crcs = (struct replica_crcs){ 0, REPLICA_CRC_ANNOT_EMPTY };
        for (uint32_t i = 0; i < n; i++)
                replica_crc_record(&a.values.crcs, &recs[i]);
        err_clear(&err);
        cr_assert_eq(replica_apply(s, &a, &err), REPLICA_OK, "%s", err.text);
}

static struct mailbox *mailbox(void)
{
        struct mailbox *m;

        cr_assert_eq(replica_open(s, NAME, &m, &err), 0, "%s", err.text);
        return m;
}

static void change_here(void)
{
        struct mailbox *m = mailbox();
        struct mailbox_status status;
        struct uidset uids = UIDSET_INIT;
        struct waiter w;
        uint32_t first;
        uint64_t modseq;

        mailbox_status(m, &status);
        first = 1 + roll(status.uidnext);
        uidset_add_range(&uids, first, first + roll(40));
        waiter_init_blocking(&w);
        switch (roll(6)) {
        case 0: {
                struct append_item item = { .stage = gen_stage(s, ++number, 400), .internaldate = 1700000000, .savedate = 1700000100 };
                struct append_result result;

                done(mailbox_append(m, &item, 1, &result, &w, &err), &w);
                stage_unref(&item.stage);
                break;
        }
        case 1: {
                struct span kw = span_of(words[roll(4)]);
                struct flag_change change = { .how = FLAGS_SET, .flags = roll(32) & MSG_SYSTEM_FLAGS, .keywords = &kw, .keyword_count = roll(2) };

                done(mailbox_store_flags(m, &uids, &change, UINT64_MAX, NULL, NULL, &modseq, &w, &err), &w);
                break;
        }
        case 2:
                done(mailbox_expunge(m, &uids, false, NULL, NULL, &w, &err), &w);
                break;
        case 3: {
                struct unexpunge how = { .since = INT64_MIN };
                struct append_result result;
                struct uidset restored = UIDSET_INIT;

                done(mailbox_unexpunge(m, &uids, &how, &restored, &result, &w, &err), &w);
                uidset_deinit(&restored);
                break;
        }
        case 4: {
                struct annot a = notes[roll(3)];

                if (roll(2))
                        a.value.p = NULL;
                cr_assert_eq(annot_user_make(s, "mary", &err), 0);
                done(mailbox_annotate_messages(m, &uids, &a, 1, 0, UINT64_MAX, NULL, NULL, &modseq, &w, &err), &w);
                break;
        }
        default:
                cr_assert_eq(replica_expunge(s, NAME, ID_1, &uids, &err), REPLICA_OK, "%s", err.text);
        }
        uidset_deinit(&uids);
        mailbox_unref(&m);
}

/* Housekeeping that changes what is to be seen. */
static void purge(void)
{
        struct mailbox *m = mailbox();
        struct purged purged;

        if (roll(2))
                cr_assert_eq(mailbox_purge_expunged(m, INT64_MAX, &purged, &err), 0, "%s", err.text);
        else
                cr_assert_eq(mailbox_forget_keywords(m, NULL, NULL, &err), 0, "%s", err.text);
        mailbox_unref(&m);
}

static void rebuild(void)
{
        const struct mbentry *e = mboxlist_find(store_mboxlist(s), NAME);
        struct mailbox_ident ident;

        cr_assert_eq(mbentry_ident(s, e, &ident, &err), 0);
        cr_assert_eq(mailbox_reconstruct(s, &ident, &err), 0, "%s", err.text);
        mbentry_unref(&e);
}

static void relocate(void)
{
        const struct mbentry *e = mboxlist_find(store_mboxlist(s), NAME);
        const char *to = strcmp(e->partition, "other") == 0 ? "default" : "other";
        enum replica_code code = replica_rename(s, NAME, NAME, to, 0, false, &err);

        cr_assert_eq(code, REPLICA_OK, "%s", err.text);
        mbentry_unref(&e);
}

/* All but where it is. */
static void forget_partition(char *text)
{
        char *p = strstr(text, " partition="), *end = strstr(text, " acl=");

        cr_assert(p && end);
        memset(p, '-', (size_t)(end - p));
        memmove(p + 1, end, strlen(end) + 1);
}

/* Housekeeping and stops that nobody may notice. */
static void housekeep(void)
{
        struct mailbox *m = mailbox();

        switch (roll(6)) {
        case 0:
                cr_assert_eq(mailbox_checkpoint(m, &err), 0, "%s", err.text);
                break;
        case 1:
        case 2:
                mailbox_maintain_begin(m);
                cr_assert_eq(mailbox_roll(m, &err), 0);
                cr_assert_eq(mailbox_begin_next(m, &err), 0);
                mailbox_maintain_end(m);
                cr_assert_eq(mailbox_compact(m, &err), 0, "%s", err.text);
                break;
        case 3:
                mailbox_unref(&m);
                rebuild();
                return;
        case 4:
                mailbox_unref(&m);
                relocate();
                return;
        default:
                mailbox_unref(&m);
                close_it();
                open_it();
                return;
        }
        mailbox_unref(&m);
}

/* What a kill at this moment leaves, opened apart: the same, but for modseqs that are jumped over. */
static void kill_it(const char *was, bool rebuilt)
{
        struct store *here = s;
        struct gen_uploads kept = up;
        char cmd[600], dir[100];
        char *mine = strdup(was), *theirs;

        strcpy(dir, scratch_dir);
        snprintf(cmd, sizeof cmd, "rm -rf %s.k && cp -a %s %s.k && find %s.k/mail %s.k/other -name %s -delete", dir, dir, dir, dir, dir, rebuilt ? "index" : "cyrd.none");
        cr_assert_eq(system(cmd), 0);
        strcat(scratch_dir, ".k");
        open_it();
        theirs = strdup(gen_dump(s, NAME, true));
        {
                char *a = strstr(mine, " modseq="), *b = strstr(theirs, " modseq=");
                unsigned long long p, q;

                cr_assert(a && b, "%s", theirs);
                p = strtoull(a + 8, NULL, 10);
                q = strtoull(b + 8, NULL, 10);
                cr_expect(p == q || (q > p && (q - p) % 65536 == 0), "%llu %llu", p, q);
                a[8] = b[8] = 0;
                cr_assert_str_eq(mine, theirs);
                cr_assert_str_eq(strchr(a + 9, ' '), strchr(b + 9, ' '));
        }
        free(mine);
        free(theirs);
        store_close(&s);
        strcpy(scratch_dir, dir);
        snprintf(cmd, sizeof cmd, "rm -rf %s.k", dir);
        cr_assert_eq(system(cmd), 0);
        s = here;
        up = kept;
}

static char *dump(void)
{
        char *kept = strdup(gen_dump(s, NAME, false));

        cr_assert_null(strstr(kept, "CRCs"), "%s", kept);
        cr_assert_str_eq(gen_dump(s, NAME, true), kept);
        return kept;
}

Test(replica_model, nothing_is_different_wherever_it_is_read_from)
{
        unsigned rounds = getenv("ROUNDS") ? (unsigned)atoi(getenv("ROUNDS")) : 60;
        struct replica_apply a;

        x = getenv("SEED") ? (uint32_t)atoi(getenv("SEED")) : 1;
        open_it();
        a = gen_apply(&up, NAME, ID_1, NULL, 0);
        cr_assert_eq(replica_apply(s, &a, &err), REPLICA_OK, "%s", err.text);
        for (unsigned i = 0; i < rounds; i++) {
                char *was, *is;
                uint32_t what = roll(20);

                if (getenv("VERBOSE"))
                        fprintf(stderr, "round %u: %u\n", i, what);
                if (what < 6)
                        master_changes(what == 0, what == 1);
                else if (what < 12)
                        change_here();
                else if (what == 12)
                        purge();
                was = dump();
                if (what > 12) {
                        housekeep();
                        is = dump();
                        forget_partition(is);
                        forget_partition(was);
                        cr_assert_str_eq(is, was, "round %u", i);
                        free(was);
                        free(is);
                        was = dump();
                }
                if (i % 5 == 4)
                        kill_it(was, roll(2));
                free(was);
        }
        close_it();
}

static int fail_sync(const char *call)
{
        return strcmp(call, "fdatasync") == 0 ? EIO : 0;
}

/* The disk fails: what was before is shown, its modseq among it. */
Test(replica_model, what_could_not_be_synced_is_not_shown)
{
        struct mailbox_status before, after;
        struct replica_record rec;
        struct replica_apply a;
        struct mailbox *m;

        open_it();
        rec = gen_record(&up, 7, 1, 300, 20);
        gen_upload(&up, 1, 300);
        a = gen_apply(&up, NAME, ID_1, &rec, 1);
        cr_assert_eq(replica_apply(s, &a, &err), REPLICA_OK, "%s", err.text);
        m = mailbox();
        mailbox_status(m, &before);
        rec.flags = MSG_FLAGGED;
        rec.modseq = 30;
        a = gen_apply(&up, NAME, ID_1, &rec, 1);
        a.values.last_uid = 9;
        fs_fault = fail_sync;
        cr_expect_eq(replica_apply(s, &a, &err), REPLICA_FAILED);
        fs_fault = NULL;
        mailbox_status(m, &after);
        cr_expect_eq(after.highestmodseq, before.highestmodseq, "%llu", (unsigned long long)after.highestmodseq);
        cr_expect_eq(after.uidnext, before.uidnext);
        cr_expect_eq(after.messages, 1);
        mailbox_unref(&m);
        close_it();
}

/* What cannot be said in the protocol is no different in the CRCs. */
Test(replica_model, a_date_before_1970_is_sent_and_summed_up_as_the_same)
{
        struct append_item item = { .internaldate = -86400, .savedate = 1700000100 };
        struct append_result result;
        struct replica_apply a;
        struct waiter w;
        struct mailbox *m;

        open_it();
        a = gen_apply(&up, NAME, ID_1, NULL, 0);
        cr_assert_eq(replica_apply(s, &a, &err), REPLICA_OK, "%s", err.text);
        m = mailbox();
        item.stage = gen_stage(s, 1, 300);
        waiter_init_blocking(&w);
        done(mailbox_append(m, &item, 1, &result, &w, &err), &w);
        stage_unref(&item.stage);
        mailbox_unref(&m);
        free(dump());
        a = take_all();
        cr_assert_eq(a.records_n, 1);
        cr_expect_eq(recs[0].internaldate, 0);
        close_it();
}

/* A master may give any UID: what is remembered of each is bounded. */
Test(replica_model, a_high_uid_takes_no_memory)
{
        struct replica_record rec;
        struct replica_apply a;
        struct mailbox *m;
        struct msg msg;
        struct extent extent;

        open_it();
        rec = gen_record(&up, UINT32_MAX - 100, 1, 300, 20);
        gen_upload(&up, 1, 300);
        a = gen_apply(&up, NAME, ID_1, &rec, 1);
        cr_assert_eq(replica_apply(s, &a, &err), REPLICA_OK, "%s", err.text);
        m = mailbox();
        for (unsigned i = 0; i < 2; i++) {
                cr_assert_eq(mailbox_message(m, rec.uid, &msg, &err), 0, "%s", err.text);
                cr_assert_eq(mailbox_body(m, &msg, &extent, &err), 0, "%s", err.text);
                file_unref(&extent.file);
        }
        cr_expect_lt(m->checked_words, 1u << 22);
        mailbox_unref(&m);
        close_it();
}

static unsigned calls, failing_call;
static int failing_errno;
static bool for_good;
static int fail_nth(const char *call)
{
        (void)call;
        calls++;
        return calls == failing_call || (for_good && failing_call && calls > failing_call) ? failing_errno : 0;
}

/* One that is there already, and a request that changes it, brings many messages, and some in files of their own. */
static struct replica_apply before_and_after(char **before_r)
{
        struct replica_apply a;

        open_it();
        number = 0;
        for (unsigned i = 0; i < 3; i++) {
                recs[i] = gen_record(&up, i + 1, ++number, 300, i + 2);
                gen_upload(&up, number, 300);
        }
        a = gen_apply(&up, NAME, ID_1, recs, 3);
        cr_assert_eq(replica_apply(s, &a, &err), REPLICA_OK, "%s", err.text);
        *before_r = strdup(gen_dump(s, NAME, false));
        recs[0].flags = MSG_FLAGGED;
        recs[0].keywords = words;
        recs[0].keywords_n = 1;
        recs[0].modseq = 9;
        recs[1].flags = MSG_EXPUNGED;
        recs[1].modseq = 9;
        for (unsigned i = 3; i < 30; i++) {
                size_t size = i % 4 == 0 ? 70000 : 60000;

                recs[i] = gen_record(&up, 2 * i, ++number, size, 10);
                gen_upload(&up, number, size);
                recs[i].keywords = words + 1;
                recs[i].keywords_n = 1;
        }
        return gen_apply(&up, NAME, ID_1, recs, 30);
}

/* Returns how many calls there were. */
static unsigned apply_failing(unsigned nth, int error, bool always)
{
        char *before, *after;
        struct replica_apply a = before_and_after(&before);
        enum replica_code code;
        const char *now;

        after = gen_expected(&a);
        calls = 0;
        failing_call = nth;
        failing_errno = error;
        for_good = always;
        fs_fault = fail_nth;
        err_clear(&err);
        code = replica_apply(s, &a, &err);
        fs_fault = NULL;
        now = gen_dump(s, NAME, true);
        if (code == REPLICA_OK)
                cr_assert_str_eq(now, after, "call %u", nth);
        else if (strncmp(now, "error", 5) != 0)
                cr_assert_str_eq(now, before, "call %u, %s", nth, err.text);
        close_it();
        open_it();
        now = gen_dump(s, NAME, true);
        cr_assert(strcmp(now, after) == 0 || (code != REPLICA_OK && strcmp(now, before) == 0), "call %u, code %d: %s", nth, code, now);
        if (strcmp(now, before) == 0) {         /* it works now */
                for (unsigned i = 1; i <= number; i++)
                        gen_upload(&up, i, i < 4 ? 300 : (i - 1) % 4 == 0 ? 70000 : 60000);
                err_clear(&err);
                cr_assert_eq(replica_apply(s, &a, &err), REPLICA_OK, "call %u: %s", nth, err.text);
                cr_assert_str_eq(gen_dump(s, NAME, true), after);
        }
        close_it();
        scratch_remove();
        scratch_make();
        free(before);
        free(after);
        return calls;
}

Test(replica_model, any_call_may_fail_and_it_is_all_or_nothing)
{
        static const struct { int error; bool always; } how[] = { { ENOSPC, false }, { EIO, false }, { EIO, true } };

        for (size_t i = 0; i < ARRAY_LEN(how); i++) {
                unsigned n = apply_failing(0, 0, false);

                for (unsigned nth = 1; nth <= n; nth += getenv("ROUNDS") ? 1 : 7)
                        apply_failing(nth, how[i].error, how[i].always);
                cr_expect_gt(n, 10);
        }
}

/* As many new keywords as there may be, all in the place of forgotten ones, in one request. */
Test(replica_model, all_keywords_may_be_others_at_once)
{
        enum { ROUNDS = 3 };
        static char names[ROUNDS][KEYWORDS_MAX][12];
        static const char *list[KEYWORDS_MAX];
        struct replica_record rec;
        struct replica_apply a;
        struct mailbox *m;
        time_t began = time(NULL);

        open_it();
        rec = gen_record(&up, 1, 1, 300, 2);
        gen_upload(&up, 1, 300);
        for (unsigned i = 0; i < ROUNDS; i++) {
                for (unsigned k = 0; k < KEYWORDS_MAX; k++) {
                        snprintf(names[i][k], sizeof names[i][k], "k%u.%04u", i, k);
                        list[k] = names[i][k];
                }
                rec.keywords = list;
                rec.keywords_n = KEYWORDS_MAX;
                rec.modseq++;
                a = gen_apply(&up, NAME, ID_1, &rec, 1);
                cr_assert_eq(replica_apply(s, &a, &err), REPLICA_OK, "%s", err.text);
                a = take_all();
                cr_assert_eq(recs[0].keywords_n, KEYWORDS_MAX);
                rec.keywords_n = 0;
                rec.modseq++;
                a = gen_apply(&up, NAME, ID_1, &rec, 1);
                cr_assert_eq(replica_apply(s, &a, &err), REPLICA_OK, "%s", err.text);
                m = mailbox();
                cr_assert_eq(mailbox_forget_keywords(m, NULL, NULL, &err), 0, "%s", err.text);
                mailbox_unref(&m);
        }
        cr_expect_lt(time(NULL) - began, 5);
        close_it();
}
