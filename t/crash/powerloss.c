/*
 * powerloss - rebuilds what a disk could hold after a power loss, from the recording of a load (record.c, load.c), opens the store on
 * it, and compares what is there with what had been acknowledged.
 *   powerloss LOG SCRATCH STATES SEED [--jobs N] [--state N]
 *   powerloss LOG SCRATCH 0 0 --sites LIST [--rounds N] [--jobs N]
 * --state looks at one state only and leaves it in SCRATCH.0.only, as it was built; with POWERLOSS_VERBOSE set recovery logs to stderr.
 * --sites takes each line of LIST (hashes of call sites, a tab, a name: t/crash/site-names) out in turn and looks for a state that
 * shows it; a test line for each.
 *
 * The model of a disk. What was written to a file before a sync of it began is there once that sync has returned; whatever else was
 * written up to the moment of the loss may be there or not, each write by itself, in part (pages of 4 KiB), in any order. The same
 * for names: entries of a directory are there once the directory was synced; later ones may be there or not, as any prefix or any
 * subset.
 *
 * The model of a store: each thread of the load worked on its own mailboxes, so after the loss they are as after its last acknowledged
 * operation, or as after the one in flight as a whole. Flag changes may be missing when they are younger than FLAGS_US.
 * UIDNEXT and HIGHESTMODSEQ are never below what was acknowledged. Nothing is logged as an error, a clean stop is remembered, and some
 * of the states are damaged besides (enum damage), for what is only there for that.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/duplicate.h"
#include "store/mailbox.h"
#include "store/annot.h"
#include "store/mboxlist.h"
#include "store/quota.h"
#include "store/seen.h"
#include "store/sieve_files.h"
#include "store/sort_cache.h"
#include "store/store.h"
#include "store/user.h"
#include "t/crash/model.h"
#include "t/crash/powerloss.h"
#include "util/array.h"
#include "util/fs.h"
#include "util/hash.h"
#include "util/log.h"
#include "util/must.h"

#define FLAGS_US 1500000u               /* "on disk within a second", and what a loaded machine adds */

/* ---- what is there ---- */

static bool said_clean, said_dumped, said_damaged, said_second, said_orphan;     /* of the notes up to the cut */

static void spoil(const char *path)
{
        static const char garbage[16384] = "no table";
        int fd = open(path, O_WRONLY);

        must(fd < 0 || pwrite(fd, garbage, sizeof garbage, 0) > 0);
        if (fd >= 0)
                close(fd);
}

static void do_damage(const char *scratch, int damage)
{
        static const char *const tables[] = { "mailboxes.db", "subscriptions.db", "removals.db" };
        char path[4300];
        struct err err = ERR_INIT;

        if (damage == DAMAGE_UNMOUNTED) {
                snprintf(path, sizeof path, "%s/second/data", scratch);
                fs_remove_tree(path, &err);
        }
        for (size_t i = 0; (damage == DAMAGE_TABLES || damage == DAMAGE_DATABASE) && i < ARRAY_LEN(tables); i++) {
                snprintf(path, sizeof path, "%s/etc/conf/db/%s", scratch, tables[i]);
                spoil(path);
        }
        if (damage == DAMAGE_DATABASE) {
                snprintf(path, sizeof path, "%s/etc/conf/db.backup/tables", scratch);
                fs_remove_tree(path, &err);
                for (unsigned i = 1; i < 20; i++) {
                        snprintf(path, sizeof path, "%s/etc/conf/db/log.%010u", scratch, i);
                        unlink(path);
                }
        }
}

static void print_problem(void *ctx, const char *mailbox, uint32_t uid, const char *text)
{
        fprintf(ctx, "P %s: check finds, uid %u: %s\n", mailbox, uid, text);
}

/* The message's shared /comment, that of the other user, and how much litter there is; "-" for none. */
static void dump_annots(struct mailbox *mbox, uint32_t uid, FILE *f)
{
        struct arena arena = ARENA_INIT;
        struct span remark, mine;
        struct annot *annots;
        unsigned litter = 0;

        mailbox_annot_values(mbox, uid, "/comment", "other", &arena, &remark, &mine);
        for (uint32_t i = 0, n = mailbox_annots(mbox, uid, NULL, &arena, &annots); i < n; i++)
                litter += strncmp(annots[i].entry, "/litter/", 8) == 0;
        fprintf(f, " %.*s %.*s %u\n", remark.p ? (int)remark.len : 1, remark.p ? remark.p : "-", mine.p ? (int)mine.len : 1,
                mine.p ? mine.p : "-", litter);
        arena_deinit(&arena);
}

/* As the notes have them: keywords k0, k1 … are bits. */
static unsigned flags_of(struct mailbox *mbox, const struct msg *msg)
{
        const struct kwset *set = mailbox_kwset(mbox, msg->kwset);
        unsigned flags = msg->flags & MSG_SYSTEM_FLAGS;

        for (uint32_t i = 0; set && i < set->n; i++) {
                const char *name = mailbox_keyword_name(mbox, set->ids[i]);

                flags |= name && name[0] == 'k' ? 256u << (name[1] - '0') : 1u << 31;
        }
        return flags;
}

static int dump_messages(struct mailbox *mbox, struct seen *other, FILE *f, struct err *err)
{
        struct view *view = mailbox_view(mbox);
        int rc = 0;

        for (uint32_t i = 1; rc == 0 && i <= view_count(view); i++) {
                struct msg msg;
                struct extent body;
                char guid[41];

                if (mailbox_message(mbox, view_uid(view, i), &msg, err) < 0 || mailbox_body(mbox, &msg, &body, err) < 0) {
                        rc = err_prefix(err, "uid %u", view_uid(view, i));
                        continue;
                }
                file_unref(&body.file);
                hex_encode(guid, msg.guid, GUID_SIZE);
                fprintf(f, "m %u %s %u %u", msg.uid, guid, flags_of(mbox, &msg), seen_has(other, msg.uid));
                dump_annots(mbox, msg.uid, f);
        }
        view_unref(&view);
        return rc;
}

static bool never_over(void *ctx)
{
        (void)ctx;
        return false;
}

/* What is filed of headers for sorting – in any state, or not there – says what the headers say. */
static int check_sorting(struct mailbox *mbox, struct err *err)
{
        struct view *view = mailbox_view(mbox);
        uint32_t n = view_count(view), done = 0;
        struct sort_wanted *wanted = xcalloc(n + 1, sizeof *wanted);
        const struct sort_facts **facts = xcalloc(n + 1, sizeof *facts);
        struct str header = STR_INIT, own = STR_INIT, scratch = STR_INIT;
        struct sort_loader loader;
        struct span text;
        struct msg msg;
        int rc = 0;

        for (uint32_t i = 0; rc == 0 && i < n; i++) {
                rc = mailbox_message(mbox, view_uid(view, i + 1), &msg, err);
                wanted[i] = (struct sort_wanted){ msg.uid, sort_check(msg.guid) };
        }
        sort_loader_init(&loader, mbox);
        if (rc == 0)
                must(sort_loader_run(&loader, wanted, facts, n, &done, never_over, NULL));
        for (uint32_t i = 0; rc == 0 && i < n; i++) {
                str_clear(&own);
                if (mailbox_message(mbox, wanted[i].uid, &msg, err) < 0 || mailbox_header(mbox, &msg, &header, &text, err) < 0) {
                        rc = -1;
                        continue;
                }
                sort_facts_append(text, &own, &scratch);
                if (sort_facts_size(facts[i]) != own.len || memcmp(facts[i], own.data, own.len) != 0)
                        rc = err_set(err, ERR_CORRUPT, "uid %u is sorted by another header than its own", msg.uid);
        }
        sort_loader_deinit(&loader);
        str_deinit(&header);
        str_deinit(&own);
        str_deinit(&scratch);
        free(wanted);
        free(facts);
        view_unref(&view);
        return rc;
}

/* The marks of deliveries that this state has. */
static ARRAY(struct duplicate_mark) marks;

static bool keep_mark(void *ctx, const struct duplicate_mark *mark)
{
        (void)ctx;
        *ARRAY_PUSH(&marks) = *mark;
        return true;
}

/* A mark says that a message is there: it is, or has been expunged since, and it is just that one. The load's message ids are GUIDs. */
static int check_marks(struct mailbox *mbox, uint32_t uidnext, FILE *f, struct err *err)
{
        struct duplicate_key key;
        unsigned n = 0;

        duplicate_key_make(mailbox_uniqueid(mbox), SPAN(""), SPAN(""), &key);
        for (size_t i = 0; i < marks.n; i++) {
                const struct duplicate_mark *mark = &marks.v[i];
                char guid[2 * GUID_SIZE + 1];
                struct msg msg;

                if (memcmp(mark->key.mailbox, key.mailbox, sizeof key.mailbox) != 0)
                        continue;
                n++;
                if (mark->uid >= uidnext)
                        return err_set(err, ERR_CORRUPT, "uid %u is called delivered, and never was there", mark->uid);
                if (mailbox_message(mbox, mark->uid, &msg, NULL) < 0)
                        continue;                       /* purged */
                hex_encode(guid, msg.guid, GUID_SIZE);
                duplicate_key_make(mailbox_uniqueid(mbox), span_of(guid), SPAN(""), &key);
                if (memcmp(mark->key.message, key.message, sizeof key.message) != 0)
                        return err_set(err, ERR_CORRUPT, "uid %u is another message than the one that is called delivered", mark->uid);
        }
        fprintf(f, "D %u\n", n);
        return 0;
}

/* The user's script that is called as the mailbox is. */
static int dump_script(struct store *store, const char *user, const char *name, FILE *f, struct arena *arena, struct err *err)
{
        struct sieve_script *list;
        struct span text;
        uint32_t n;

        if (sieve_files_list(store, user, arena, &list, &n, err) < 0)
                return -1;
        for (uint32_t i = 0; i < n; i++) {
                if (strcmp(list[i].name, name) != 0)
                        continue;
                if (sieve_files_read(store, user, name, arena, &text, err) < 0)
                        return -1;
                fprintf(f, "t %d %.*s\n", list[i].active, (int)text.len, text.p);
        }
        return 0;
}

static int dump_open(struct store *store, struct mailbox *mbox, FILE *f, const struct mbentry *e, struct err *err)
{
        struct mailbox_status st;
        struct seen *other;
        struct annot *annots;
        struct arena arena = ARENA_INIT;
        char user[64];
        struct quota_info quota;
        bool subscribed = false;
        int rc;

        mailbox_status(mbox, &st);
        snprintf(user, sizeof user, "%.*s", (int)strcspn(e->name + 5, "."), e->name + 5);
        if (sub_has(store, user, e->name, &subscribed, err) < 0)
                return -1;
        fprintf(f, "M %s %u %llu %u %d %lld\n", e->name, st.uidnext, (unsigned long long)st.highestmodseq, st.uidvalidity, subscribed,
                quota_get(store, e->name, &quota) ? (long long)quota.limit[QUOTA_STORAGE] : 0);
        if (mailbox_annots(mbox, 0, NULL, &arena, &annots) > 0)
                fprintf(f, "a %.*s\n", (int)annots[0].value.len, annots[0].value.p);
        rc = dump_script(store, user, e->name + 5, f, &arena, err);
        arena_deinit(&arena);
        if (rc < 0)
                return -1;
        if (check_marks(mbox, st.uidnext, f, err) < 0 || seen_open(store, e->uniqueid, "other", &other, err) < 0)
                return -1;
        rc = dump_messages(mbox, other, f, err);
        if (rc == 0)
                rc = check_sorting(mbox, err);
        seen_unref(&other);
        return rc;
}

static int dump_mailbox(struct store *store, FILE *f, const struct mbentry *e, int damage, struct err *err)
{
        struct mailbox_ident ident;
        struct mailbox *mbox;
        struct check_report report = { .problem = print_problem, .ctx = f };
        int rc;

        if (mbentry_ident(store, e, &ident, err) < 0 || mailbox_open(store, &ident, &mbox, err) < 0)
                return err_prefix(err, "%s", e->name);
        rc = dump_open(store, mbox, f, e, err);
        mailbox_unref(&mbox);
        if (rc == 0 && damage != DAMAGE_DATABASE)
                rc = mailbox_check_files(store, &ident, &report, err);
        return rc < 0 ? err_prefix(err, "%s", e->name) : 0;
}

/* What a root says is used, when it is sure of it, is what its mailboxes hold. */
static int check_quotas(struct store *store, FILE *f, struct err *err)
{
        struct arena arena = ARENA_INIT;
        const char **roots;
        size_t n = quota_list(store, "", &arena, &roots), sure = 0;
        int rc = 0;

        for (size_t i = 0; i < n && rc == 0; i++) {
                struct quota_info before, after;
                bool removed;

                rc = quota_fix(store, roots[i], true, &before, &after, &removed, err);
                if (rc == 0 && removed)
                        rc = err_set(err, ERR_CORRUPT, "quota root %s has no mailbox", roots[i]);
                sure += !before.unsure;
                if (rc == 0 && !before.unsure && memcmp(before.used, after.used, sizeof before.used) != 0)
                        rc = err_set(err, ERR_CORRUPT, "quota root %s uses %lld octets of %lld messages instead of %lld of %lld", roots[i],
                                     (long long)before.used[QUOTA_STORAGE], (long long)before.used[QUOTA_MESSAGE],
                                     (long long)after.used[QUOTA_STORAGE], (long long)after.used[QUOTA_MESSAGE]);
        }
        fprintf(f, "Q %zu\n", sure);
        arena_deinit(&arena);
        return rc;
}

/* A mailbox is in one partition: where it is listed. A directory of one that was just being made, or long gone, is another matter. */
struct finding { FILE *f; int damage; };

static void print_finding(void *ctx, const char *text)
{
        struct finding *x = ctx;

        if (strncmp(text, "moved: ", 7) == 0 || (x->damage != DAMAGE_DATABASE && (strncmp(text, "dangling: ", 10) == 0 || strstr(text, " is a copy of "))))
                fprintf(x->f, "P the list: %s\n", text);
}

static bool is_ours(const struct mbentry *e)
{
        return e->type == MBTYPE_NORMAL && strncmp(e->name, "user.", 5) == 0;
}

/* All before any is opened: what a damaged one has of an interrupted move is known to the other when that is opened. */
static int reconstruct_all(struct store *store, int damage, struct err *err)
{
        const struct mbentry *e;
        char after[512] = "";
        int rc = 0;

        while (rc == 0 && mboxlist_next(store_mboxlist(store), "", after, &e, 1)) {
                struct mailbox_ident ident;

                snprintf(after, sizeof after, "%s", e->name);
                if (is_ours(e) && (mbentry_ident(store, e, &ident, err) < 0 || mailbox_reconstruct(store, &ident, err) < 0)) {
                        err_prefix(err, "%s", e->name);
                        rc = damage == DAMAGE_DATABASE ? 0 : -1;                                /* deleted since the dump */
                }
                mbentry_unref(&e);
        }
        return rc;
}

/* In a child: open the store on the state and print it. */
static void dump_store(const char *scratch, int damage, int out)
{
        FILE *f = fdopen(out, "w");
        char path[4300], text[9000], after[512] = "";
        struct store_options options = { .no_threads = true, .small_databases = true };
        const struct mbentry *e;
        struct store *store;
        struct diag diag;
        struct err err = ERR_INIT;
        int n;

        alarm(60);
        if (!getenv("POWERLOSS_VERBOSE")) {
                snprintf(path, sizeof path, "%s.errors", scratch);
                n = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
                dup2(n, 2);
        }
        log_open(LOG_TO_STDERR, "powerloss", -1, getenv("POWERLOSS_VERBOSE") ? LOG_INFORM : LOG_WARN);
        snprintf(path, sizeof path, "%s/imapd.conf", scratch);
        n = snprintf(text, sizeof text,
                     "configdirectory: %s/etc/conf\npartition-default: %s/spool/data\npartition-second: %s/second/data\n"
                     "partition-third: %s/second/third\ndefaultpartition: default\nsievedir: %s/etc/sieve\n", scratch, scratch, scratch, scratch,
                     scratch);
        if (fs_replace(path, text, (size_t)n, 0600, &err) < 0)
                goto failed;
        diag_init(&diag);
        if (conf_load(path, NULL, &options.conf, &diag, &err) < 0 || store_open(&options, &store, &err) < 0)
                goto failed;
        fprintf(f, "S %d\n", store_was_unclean(store));
        if (duplicate_each(store, keep_mark, NULL, &err) < 0)
                goto failed;
        if (said_damaged && reconstruct_all(store, damage, &err) < 0)
                goto failed;
        while (mboxlist_next(store_mboxlist(store), "", after, &e, 1)) {
                snprintf(after, sizeof after, "%s", e->name);
                if (!is_ours(e))
                        ;
                else if (dump_mailbox(store, f, e, damage, &err) < 0) {
                        if (damage != DAMAGE_DATABASE)
                                goto failed;
                        log_event(LOG_INFORM, NULL, "dump.skipped", "mailbox=%s reason=\"%s\"", e->name, err.text);
                }
                mbentry_unref(&e);
        }
        if (!said_damaged && mboxlist_check(store_mboxlist(store), false, print_finding, &(struct finding){ f, damage }, &err) < 0)
                goto failed;
        if (!said_damaged && damage != DAMAGE_DATABASE && check_quotas(store, f, &err) < 0)
                goto failed;
        store_close(&store);
        fprintf(f, "end\n");
        fflush(f);
        _exit(0);
failed:
        fprintf(f, "P %s\n", err.text);
        fflush(f);
        _exit(1);
}

struct found_msg { uint32_t uid, flags, other; unsigned litter; char guid[41], remark[32], mine[32]; bool used; };
struct found_box { char name[64], comment[32], script[32]; uint32_t uidnext, uidvalidity, limit; uint64_t modseq; bool subscribed, active; ARRAY(struct found_msg) msgs; };
struct found { ARRAY(struct found_box) boxes; char problem[600]; bool complete, unclean; };

static void found_deinit(struct found *s)
{
        for (size_t i = 0; i < s->boxes.n; i++)
                ARRAY_FREE(&s->boxes.v[i].msgs);
        ARRAY_FREE(&s->boxes);
}

static uint64_t marks_checked, quotas_checked;  /* marks of deliveries, quota roots that were sure of what is used: in all states */

static void take_line(struct found *s, char *line)
{
        struct found_box *b = s->boxes.n ? &s->boxes.v[s->boxes.n - 1] : NULL;
        unsigned long long modseq;
        int flag;

        line[strcspn(line, "\n")] = '\0';
        if (line[0] == 'M') {
                b = ARRAY_PUSH(&s->boxes);
                memset(b, 0, sizeof *b);
                if (sscanf(line, "M %63s %u %llu %u %d %u", b->name, &b->uidnext, &modseq, &b->uidvalidity, &flag, &b->limit) == 6) {
                        b->modseq = modseq;
                        b->subscribed = flag;
                }
        } else if (line[0] == 'a' && b) {
                snprintf(b->comment, sizeof b->comment, "%.31s", line + 2);
        } else if (line[0] == 't' && b) {
                b->active = line[2] == '1';
                snprintf(b->script, sizeof b->script, "%.31s", line + 4);
        } else if (line[0] == 'm' && b) {
                struct found_msg *m = ARRAY_PUSH(&b->msgs);

                memset(m, 0, sizeof *m);
                if (sscanf(line, "m %u %40s %u %u %31s %31s %u", &m->uid, m->guid, &m->flags, &m->other, m->remark, m->mine, &m->litter) < 7)
                        snprintf(s->problem, sizeof s->problem, "odd line %.500s", line);
        } else if (line[0] == 'D') {
                marks_checked += strtoul(line + 2, NULL, 10);
        } else if (line[0] == 'Q') {
                quotas_checked += strtoul(line + 2, NULL, 10);
        } else if (line[0] == 'S') {
                s->unclean = line[2] == '1';
        } else if (line[0] == 'P') {
                snprintf(s->problem, sizeof s->problem, "%.500s", line + 2);
        } else if (strcmp(line, "end") == 0) {
                s->complete = true;
        }
}

/* A power loss is nothing that an operator has to act upon, and a checkpoint of an index is whole or not there. */
static bool is_alarm(const char *line)
{
        return strstr(line, ": error ") || strstr(line, ": warning index.");
}

static void look_for_errors(const char *scratch, struct found *s)
{
        char path[4300], line[400];
        FILE *f;

        snprintf(path, sizeof path, "%s.errors", scratch);
        f = fopen(path, "r");
        while (f && !s->problem[0] && fgets(line, sizeof line, f))
                if (is_alarm(line))
                        snprintf(s->problem, sizeof s->problem, "it is logged: %.*s", (int)strcspn(line, "\n"), line);
        if (f)
                fclose(f);
}

static void look(const char *scratch, int damage, struct found *s)
{
        int fds[2], status;
        pid_t pid;
        FILE *f;
        char line[560];

        memset(s, 0, sizeof *s);
        fflush(stdout);
        if (pipe(fds) < 0 || (pid = fork()) < 0) {
                snprintf(s->problem, sizeof s->problem, "no fork");
                return;
        }
        if (pid == 0) {
                close(fds[0]);
                dump_store(scratch, damage, fds[1]);
        }
        close(fds[1]);
        f = fdopen(fds[0], "r");
        while (fgets(line, sizeof line, f))
                take_line(s, line);
        fclose(f);
        waitpid(pid, &status, 0);
        if (WIFSIGNALED(status))
                snprintf(s->problem, sizeof s->problem, "recovery died of signal %d", WTERMSIG(status));
        if (!s->complete && !s->problem[0])
                snprintf(s->problem, sizeof s->problem, "recovery ended early");
        if (damage == DAMAGE_NONE && !said_damaged)
                look_for_errors(scratch, s);
}

/* ---- comparing ---- */

/* The last time that nobody had the store open: after a kill, what was in the page cache only gets no older meanwhile. 0: not open yet. */
static uint64_t worked_us, down_from_us, up_at_us;

static uint64_t age(uint64_t time_us, uint64_t cut_us)
{
        uint64_t up = up_at_us && up_at_us < cut_us ? up_at_us : cut_us;
        uint64_t down = time_us <= down_from_us && up > down_from_us ? up - down_from_us : 0;

        return time_us < cut_us ? cut_us - time_us - down : 0;
}

static bool value_allowed(const struct flag_at *v, size_t n, uint32_t flags, uint64_t cut_us)
{
        size_t first = 0;

        for (size_t i = 0; i < n; i++)
                if (age(v[i].time_us, cut_us) > FLAGS_US)
                        first = i;
        for (size_t i = first; i < n; i++)
                if (v[i].flags == flags)
                        return true;
        return false;
}

static bool seen_may_be_lost;                   /* the databases come from their last dumps */

static bool flags_allowed(const struct msg_model *m, const struct found_msg *h, uint64_t cut_us)
{
        return value_allowed(m->flags.v, m->flags.n, h->flags, cut_us) &&
               (seen_may_be_lost || value_allowed(m->other.v, m->other.n, h->other, cut_us));
}

/* Whose a private one is stands in a database, and is lost with it. */
static bool remarks_equal(const struct msg_model *m, const struct found_msg *h)
{
        const char *remark = *m->remark ? m->remark : "-", *mine = *m->mine ? m->mine : "-";

        return strcmp(h->remark, remark) == 0 && h->litter == m->litter &&
               (strcmp(h->mine, mine) == 0 || (seen_may_be_lost && strcmp(h->mine, "-") == 0));
}

static bool box_equal(const struct box_model *want, struct found_box *have, uint64_t cut_us, char *why, size_t size)
{
        for (size_t k = 0; k < have->msgs.n; k++)
                have->msgs.v[k].used = false;
        for (size_t i = 0; i < want->msgs.n; i++) {
                const struct msg_model *m = &want->msgs.v[i];
                const struct found_msg *there = NULL;
                bool found = false;

                for (size_t k = 0; k < have->msgs.n && !found; k++) {
                        struct found_msg *h = &have->msgs.v[k];

                        if (h->used || strcmp(h->guid, m->guid) != 0 || (m->uid && h->uid != m->uid))
                                continue;
                        if (!remarks_equal(m, h))
                                continue;
                        there = h;
                        if (flags_allowed(m, h, cut_us))
                                found = h->used = true;
                }
                if (!found) {
                        snprintf(why, size, "%s: uid %u guid %.12s %s %x, last set %x; the other's \\Seen %u, last %u", want->name, m->uid, m->guid,
                                 there ? "has flags" : "is missing, flags", there ? there->flags : 0, m->flags.v[m->flags.n - 1].flags,
                                 there ? there->other : 0, m->other.v[m->other.n - 1].flags);
                        return false;
                }
        }
        if (have->msgs.n != want->msgs.n) {
                snprintf(why, size, "%s: %zu messages instead of %zu", want->name, have->msgs.n, want->msgs.n);
                return false;
        }
        if (strcmp(have->comment, want->comment) != 0) {
                snprintf(why, size, "%s: comment \"%s\" instead of \"%s\"", want->name, have->comment, want->comment);
                return false;
        }
        if (have->uidnext < want->uidnext || have->modseq < want->modseq || (want->uidvalidity && have->uidvalidity != want->uidvalidity)) {
                snprintf(why, size, "%s: uidnext %u of %u, modseq %llu of %llu, uidvalidity %u of %u", want->name, have->uidnext, want->uidnext,
                         (unsigned long long)have->modseq, (unsigned long long)want->modseq, have->uidvalidity, want->uidvalidity);
                return false;
        }
        if (strcmp(have->script, want->script) != 0 || have->active != want->active) {
                snprintf(why, size, "%s: script \"%s\"%s instead of \"%s\"%s", want->name, have->script, have->active ? ", active," : "",
                         want->script, want->active ? ", active" : "");
                return false;
        }
        if (have->subscribed != want->subscribed) {
                snprintf(why, size, "%s is %ssubscribed", want->name, have->subscribed ? "" : "not ");
                return false;
        }
        if (have->limit != want->limit) {
                snprintf(why, size, "%s: the limit is %u instead of %u", want->name, have->limit, want->limit);
                return false;
        }
        return true;
}

static bool belongs(const char *name, unsigned number)
{
        char user[32];
        size_t len = (size_t)snprintf(user, sizeof user, "user.u%u", number);

        return strncmp(name, user, len) == 0 && (name[len] == '.' || name[len] == '\0');
}

/* `dumped_only`: what the last dumps could not know may be there or not. */
static bool thread_equal(unsigned number, const struct thread_model *t, struct found *s, bool dumped_only, uint64_t cut_us, char *why,
                         size_t size)
{
        size_t mine = 0;

        seen_may_be_lost = dumped_only;
        for (size_t i = 0; i < s->boxes.n; i++)
                mine += belongs(s->boxes.v[i].name, number);
        for (size_t i = 0; i < t->boxes.n; i++) {
                struct found_box *b = NULL;

                if (dumped_only && !t->boxes.v[i].dumped)
                        continue;
                for (size_t k = 0; k < s->boxes.n && !b; k++)
                        if (strcmp(s->boxes.v[k].name, t->boxes.v[i].name) == 0)
                                b = &s->boxes.v[k];
                if (!b) {
                        snprintf(why, size, "%s is missing", t->boxes.v[i].name);
                        return false;
                }
                if (!box_equal(&t->boxes.v[i], b, cut_us, why, size))
                        return false;
        }
        if (mine != t->boxes.n && !dumped_only) {
                snprintf(why, size, "%zu mailboxes of u%u instead of %zu", mine, number, t->boxes.n);
                return false;
        }
        return true;
}

#define THREADS_MAX 32
static struct thread_model models[THREADS_MAX];
static size_t notes_done;

static void dump_note(bool end)
{
        for (unsigned i = 0; i < THREADS_MAX; i++)
                for (size_t k = 0; k < models[i].boxes.n; k++) {
                        struct box_model *b = &models[i].boxes.v[k];

                        if (!end)
                                b->dumping = true;
                        else if (b->dumping)
                                b->dumped = true;
                }
        said_dumped = said_dumped || end;
}

static void models_advance(uint32_t cut)
{
        for (; notes_done < rec.notes.n && rec.notes.v[notes_done].seq < cut; notes_done++) {
                const struct note *n = &rec.notes.v[notes_done];
                struct thread_model *t;
                unsigned number, uidnext, first, uidvalidity;
                unsigned long long modseq;
                int used;

                if (strcmp(n->text, "opening") == 0) {
                        down_from_us = worked_us;
                        up_at_us = 0;
                } else if (up_at_us == 0) {
                        up_at_us = n->time_us;
                }
                if (strchr("BEA", n->text[0]) && n->text[1] == ' ')
                        worked_us = n->time_us;
                if (sscanf(n->text, "B %u %n", &number, &used) == 1 && number < THREADS_MAX) {
                        models[number].in_flight = n->text + used;
                        models[number].in_flight_us = n->time_us;
                } else if (sscanf(n->text, "E %u %u %llu %u %u", &number, &uidnext, &modseq, &first, &uidvalidity) == 5 &&
                           number < THREADS_MAX) {
                        struct box_model *b;

                        t = &models[number];
                        b = model_apply(t, t->in_flight, first, n->time_us);
                        t->in_flight = NULL;
                        if (b && uidnext) {
                                b->uidnext = uidnext;
                                b->modseq = modseq;
                                b->uidvalidity = uidvalidity;
                        }
                } else if (sscanf(n->text, "A %u", &number) == 1 && number < THREADS_MAX) {
                        models[number].in_flight = NULL;
                } else if (strcmp(n->text, "orphan") == 0) {
                        said_orphan = true;
                } else if (strcmp(n->text, "opening") == 0) {
                        said_clean = false;
                } else if (strcmp(n->text, "closed") == 0) {
                        said_clean = true;
                } else if (strcmp(n->text, "dump") == 0 || strcmp(n->text, "dumped") == 0) {
                        dump_note(n->text[4] == 'e');
                } else if (strcmp(n->text, "damage") == 0 || strcmp(n->text, "repaired") == 0) {
                        said_damaged = n->text[0] == 'd';
                } else if (strcmp(n->text, "second") == 0) {
                        said_second = true;
                }
        }
}

static bool can_damage(int damage)
{
        return damage == DAMAGE_UNMOUNTED ? said_second : said_dumped && !said_damaged;
}

static bool has_file(const char *dir, const char *name)
{
        DIR *d = opendir(dir);
        struct dirent *e;
        bool found = false;

        while (d && !found && (e = readdir(d)) != NULL) {
                char path[4300];

                snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
                if (strcmp(e->d_name, name) == 0)
                        found = true;
                else if (e->d_type == DT_DIR && strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
                        found = has_file(path, name);
        }
        if (d)
                closedir(d);
        return found;
}

/* 0 fine, 1 a violation (why is filled). */
static int verify(const char *scratch, uint32_t cut, int damage, char *why, size_t size)
{
        uint64_t cut_us = cut ? rec.times.v[cut - 1] : 0;
        struct found s;
        int rc = 0;

        look(scratch, damage, &s);
        if (damage == DAMAGE_UNMOUNTED) {
                rc = !strstr(s.problem, "mounted?");
                snprintf(why, size, "a partition that is not mounted does not stop the start");
                found_deinit(&s);
                return rc;
        }
        if (s.problem[0]) {
                snprintf(why, size, "%s", s.problem);
                rc = 1;
        }
        if (rc == 0 && said_orphan && !has_file(scratch, "orphan.mark")) {
                snprintf(why, size, "the directory of no mailbox is gone");
                rc = 1;
        }
        if (rc == 0 && said_clean && s.unclean) {
                snprintf(why, size, "a clean stop is forgotten");
                rc = 1;
        }
        for (unsigned i = 0; i < THREADS_MAX && rc == 0; i++) {
                char one[240], other[240] = "";
                struct thread_model after;

                if (thread_equal(i, &models[i], &s, damage == DAMAGE_DATABASE, cut_us, one, sizeof one))
                        continue;
                if (models[i].in_flight) {
                        bool ok;

                        model_copy(&after, &models[i]);
                        model_apply(&after, models[i].in_flight, 0, cut_us);
                        ok = thread_equal(i, &after, &s, damage == DAMAGE_DATABASE, cut_us, other, sizeof other);
                        model_deinit(&after);
                        if (ok)
                                continue;
                }
                snprintf(why, size, "%.240s%s%.240s%s%.80s", one, other[0] ? "; or: " : "", other, other[0] ? "; in flight: " : "",
                         models[i].in_flight ? models[i].in_flight : "");
                rc = 1;
        }
        found_deinit(&s);
        return rc;
}

/* ---- states ---- */

int try_state(const char *scratch, const struct state *st, bool *skipped_r, char *why, size_t size)
{
        unsigned seed = st->seed;

        advance(st->cut);
        models_advance(st->cut);
        *skipped_r = st->damage != DAMAGE_NONE && !can_damage(st->damage);
        if (*skipped_r)
                return 0;
        if (build_state(scratch, st->cut, st->mode, &st->victim, &seed) < 0) {
                snprintf(why, size, "cannot build: %s", strerror(errno));
                return 1;
        }
        do_damage(scratch, st->damage);
        return verify(scratch, st->cut, st->damage, why, size);
}

void print_state(const char *name, unsigned number, const struct state *st, const char *why)
{
        printf("# %s %u (cut %u of %u, %s, damage %d, seed %u): %s\n", name, number, st->cut, rec.events, mode_names[st->mode],
               st->damage, st->seed, why);
        fflush(stdout);
}

/* One state in ten is damaged besides. */
static int some_damage(unsigned i)
{
        return i % 10 == 7 ? DAMAGE_TABLES + (int)(i / 10 % 3) : DAMAGE_NONE;
}

/* The moment after the last clean stop beyond `from`, up to `upto`; or `upto`. */
static uint32_t after_stop(uint32_t from, uint32_t upto)
{
        uint32_t cut = upto;

        for (size_t i = 0; i < rec.notes.n && rec.notes.v[i].seq < upto; i++)
                if (rec.notes.v[i].seq >= from && strcmp(rec.notes.v[i].text, "closed") == 0)
                        cut = rec.notes.v[i].seq + 1;
        return cut;
}

/* States `from`, from + step, … of `count`. Returns the number of violations. */
static unsigned run(const char *scratch, unsigned count, unsigned from, unsigned step, unsigned seed, int only)
{
        unsigned bad = 0, cuts = (count + MODES - 1) / MODES;
        uint32_t former = 0;

        for (unsigned i = from; i < count; i += step) {
                struct state st = { .mode = (int)(i % MODES), .damage = some_damage(i), .seed = seed * 1000003u + i };
                char why[1200];
                bool skipped;

                /* The cut itself moves a little with the seed, forward only. */
                st.cut = 1 + rec.moments.v[(uint64_t)(i / MODES) * (rec.moments.n - 1) / cuts] + seed % 7;
                if (st.cut > rec.events)
                        st.cut = rec.events;
                if (st.mode == KEEP_NONE)
                        st.cut = after_stop(former, st.cut);
                former = st.cut;
                if (only >= 0 && (int)i < only)
                        continue;
                if (only >= 0 && (int)i > only)
                        break;
                if (only >= 0) {
                        unsigned again = st.seed;
                        char kept[4200];

                        snprintf(kept, sizeof kept, "%s.only", scratch);
                        advance(st.cut);
                        build_state(kept, st.cut, st.mode, &st.victim, &again);
                        do_damage(kept, st.damage);
                }
                if (try_state(scratch, &st, &skipped, why, sizeof why)) {
                        if (++bad <= 5)
                                print_state("state", i, &st, why);
                } else if (skipped) {
                        st.damage = DAMAGE_NONE;
                        if (try_state(scratch, &st, &skipped, why, sizeof why) && ++bad <= 5)
                                print_state("state", i, &st, why);
                }
        }
        return bad;
}

int main(int argc, char **argv)
{
        const char *sites = NULL;
        unsigned jobs = 2, count, seed, bad = 0, rounds = SITE_ROUNDS;
        int only = -1;
        pid_t pids[64];

        if (argc < 5) {
                fprintf(stderr, "usage: powerloss LOG SCRATCH STATES SEED [--sites LIST] [--rounds N] [--jobs N] [--state N]\n");
                return 2;
        }
        count = (unsigned)atoi(argv[3]);
        seed = (unsigned)atoi(argv[4]);
        for (int i = 5; i + 1 < argc; i += 2) {
                if (strcmp(argv[i], "--sites") == 0)
                        sites = argv[i + 1];
                else if (strcmp(argv[i], "--rounds") == 0)
                        rounds = (unsigned)atoi(argv[i + 1]);
                else if (strcmp(argv[i], "--state") == 0)
                        only = atoi(argv[i + 1]);
                else if (strcmp(argv[i], "--jobs") == 0)
                        jobs = (unsigned)atoi(argv[i + 1]);
        }
        if (rounds > SITE_ROUNDS)
                rounds = SITE_ROUNDS;
        if (load_log(argv[1]) < 0) {
                fprintf(stderr, "powerloss: cannot read %s\n", argv[1]);
                return 2;
        }
        if (only >= 0)
                jobs = 1;
        printf("# %u events, %zu files and directories, %zu notes, %zu ways to a sync\n", rec.events, rec.nodes.n, rec.notes.n, rec.sites.n);
        fflush(stdout);
        for (unsigned j = 0; j < jobs && j < 64; j++) {
                pids[j] = fork();
                if (pids[j] == 0) {
                        char scratch[4096];
                        unsigned n;
                        struct err err;

                        snprintf(scratch, sizeof scratch, "%s.%u", argv[2], j);
                        n = sites ? run_sites(scratch, sites, j, jobs, rounds) : run(scratch, count, j, jobs, seed, only);
                        if (!sites && only < 0 && count >= 100 && (marks_checked == 0 || (j == 0 && quotas_checked == 0))) {
                                printf("# no state had a mark of a delivery, or a quota root that was sure\n");
                                n++;
                        }
                        if (n == 0 || sites)
                                fs_remove_tree(scratch, &err);
                        fflush(stdout);
                        _exit(n > 200 ? 200 : (int)n);
                }
        }
        for (unsigned j = 0; j < jobs && j < 64; j++) {
                int status;

                waitpid(pids[j], &status, 0);
                bad += WIFEXITED(status) ? (unsigned)WEXITSTATUS(status) : 1;
        }
        if (!sites)
                printf("# %u states, %u violations\n", count, bad);
        return bad ? 1 : 0;
}
