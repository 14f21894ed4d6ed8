/* What SORT and THREAD know of messages: base subjects, message ids, texts, the cache; threads against a plain model of RFC 5256. */
#include <criterion/criterion.h>
#include <fcntl.h>

#include "store/base_subject.h"
#include "store/mailbox_private.h"
#include "store/sort_cache.h"
#include "store/thread.h"
#include "t/store/fake_store.h"
#include "util/array.h"

/* ---- base subjects (RFC 5256 2.1) ---- */

Test(base_subject, is_what_the_procedure_leaves)
{
        static const struct { const char *in, *out; bool reply; } rows[] = {
                { "", "", false }, { "plain", "plain", false }, { "  two \t blanks  ", "two blanks", false },
                { "Re: x", "x", true }, { "RE:x", "x", true }, { "re : x", "x", true }, { "Fw: x", "x", true }, { "fwd: x", "x", true },
                { "Re[2]: x", "x", true }, { "Re [list] : x", "x", true }, { "Rex: y", "Rex: y", false }, { "Re", "Re", false },
                { "Re:", "", true }, { "Re: Re: fw: x", "x", true }, { "[list] x", "x", false }, { "[list] Re: x", "x", true },
                { "Re: [a] [b] x", "x", true }, { "[a][b][c]", "[c]", false }, { "[a] [b] Re: [c]", "[c]", true },
                { "[a]", "[a]", false }, { "[a", "[a", false }, { "[a[b] x", "[a[b] x", false }, { "[] x", "x", false },
                { "x (fwd)", "x", true }, { "x (FWD) (fwd) ", "x", true }, { "(fwd)", "", true }, { "x(fwd)y", "x(fwd)y", false },
                { "[fwd: x]", "x", true }, { "[Fwd: Re: [l] x (fwd)]", "x", true }, { "[fwd: [fwd: x]]", "x", true },
                { "[fwd: x] y", "y", false }, { "[fwd: x", "[fwd: x", false }, { "Re: [fwd:]", "", true }, { "[fwd:]", "", true },
                { "Re: a\r\n b", "a b", true }, { "Aw: x", "Aw: x", false },
        };
        struct str out = STR_INIT;

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                bool reply = base_subject(span_of(rows[i].in), &out);

                cr_expect_str_eq(out.data, rows[i].out, "<%s>: <%s>, not <%s>", rows[i].in, out.data, rows[i].out);
                cr_expect_eq(reply, rows[i].reply, "<%s>", rows[i].in);
        }
        str_deinit(&out);
}

Test(base_subject, long_hostile_ones_are_linear, .timeout = 10)
{
        static const char *const parts[] = { "[a]", "Re: ", "[fwd:", "(fwd)", "Re[x]: [y] ", "[", " " };
        struct str in = STR_INIT, out = STR_INIT;

        for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
                str_clear(&in);
                while (in.len < 1000000)
                        str_append_str(&in, parts[i]);
                base_subject(str_span(&in), &out);
                for (size_t k = in.len; k > in.len / 2; k--)
                        in.data[k - 1] = ']';
                base_subject(str_span(&in), &out);
        }
        str_deinit(&in);
        str_deinit(&out);
}

/* ---- message ids and texts ---- */

static uint64_t id_of(const char *value)
{
        struct str scratch = STR_INIT;
        size_t pos = 0;
        uint64_t id = sort_next_message_id(span_of(value), &pos, &scratch);

        str_deinit(&scratch);
        return id;
}

Test(sort_facts, message_ids_are_normalised)
{
        static const char *const same[] = { "<a.b@c>", " <a.b@c> (x)", "<\"a.b\"@c>", "<\"a\\.b\"@c>", "junk <a.b\r\n @c>", "<x<a.b@c>", "<no-at> <a.b@c>" };
        static const char *const none[] = { "", "a@b", "<a@b", "<ab>", "<@b>", "<>", "<\"@\">", "<a b" };

        for (size_t i = 0; i < ARRAY_LEN(same); i++)
                cr_expect(id_of(same[i]) && id_of(same[i]) == id_of("<a.b@c>"), "%s", same[i]);
        for (size_t i = 0; i < ARRAY_LEN(none); i++)
                cr_expect_eq(id_of(none[i]), 0, "%s", none[i]);
        cr_expect_neq(id_of("<A.b@c>"), id_of("<a.b@c>"));      /* RFC 5256 3: case-sensitive */
}

static void expect_texts(const char *header, const char *subject, const char *from, const char *to, const char *cc, const char *dfrom,
                         const char *dto)
{
        const char *want[SORT_TEXTS] = { subject, from, to, cc, dfrom, dto };
        struct str out = STR_INIT, scratch = STR_INIT;
        const struct sort_facts *f;

        sort_facts_append(span_of(header), &out, &scratch);
        f = (const void *)out.data;
        cr_assert_eq(sort_facts_size(f), out.len);
        for (unsigned i = 0; i < SORT_TEXTS; i++)
                cr_expect(span_eq_str(sort_facts_text(f, i), want[i]), "%s: text %u is %.*s", header, i, (int)sort_facts_text(f, i).len,
                          sort_facts_text(f, i).p);
        str_deinit(&out);
        str_deinit(&scratch);
}

Test(sort_facts, texts_are_those_of_the_envelope)
{
        expect_texts("\r\n", "", "", "", "", "", "");
        expect_texts("Subject: Re: a\r\n b\r\nFrom: Joe <jo@x>\r\nTo: <p@q>, r@s\r\nCC: x: a@b;\r\n\r\n", "A B", "JO", "P", "X", "JOE", "P@Q");
        expect_texts("from: \"\" <a@b>\nto: u\ncc: ;\n\n", "", "A", "U", "", "A@B", "U@UNSPECIFIED-DOMAIN");
        expect_texts("From: g: z@z;\r\n\r\n", "", "G", "", "", "G", "");
        expect_texts("Subject: =?utf-8?q?=c3=a9?=\r\nFrom: =?iso-8859-1?q?=e9?= <a@b>\r\n\r\n", "E\xcc\x81", "A", "", "", "E\xcc\x81", "");
        expect_texts("Subject: one\r\nSubject: two\r\n\r\n", "ONE", "", "", "", "", "");
}

Test(sort_facts, the_last_references_are_kept)
{
        struct str header = STR_INIT, out = STR_INIT, scratch = STR_INIT;
        const struct sort_facts *f;

        str_append_str(&header, "In-Reply-To: <other@x>\r\nReferences:");
        for (int i = 0; i < 1000; i++)
                str_printf(&header, "\r\n <%d@x>", i);
        str_append_str(&header, "\r\n\r\n");
        sort_facts_append(str_span(&header), &out, &scratch);
        f = (const void *)out.data;
        cr_assert_eq(f->references, SORT_REFERENCES_MAX);
        cr_assert_eq(sort_facts_references(f)[SORT_REFERENCES_MAX - 1], id_of("<999@x>"));
        cr_assert_eq(sort_facts_references(f)[0], id_of("<936@x>"));
        str_deinit(&header);
        str_deinit(&out);
        str_deinit(&scratch);
}

/* ---- the cache ---- */

static bool never(void *ctx)
{
        (void)ctx;
        return false;
}

static bool always(void *ctx)
{
        ++*(int *)ctx;
        return true;
}

/* As whoever found them knows them. */
static void want(struct mailbox *m, const uint32_t *uids, struct sort_wanted *wanted, uint32_t n)
{
        struct msg msgs[256];
        struct err err = ERR_INIT;

        cr_assert_eq(mailbox_messages(m, uids, n, msgs, &err), 0, "%s", err.text);
        for (uint32_t i = 0; i < n; i++)
                wanted[i] = (struct sort_wanted){ uids[i], sort_check(msgs[i].guid) };
}

static void expect_subjects(struct mailbox *m, const uint32_t *uids, const char *const *subjects, uint32_t n)
{
        const struct sort_facts *facts[64];
        struct sort_wanted wanted[64];
        struct sort_loader l;
        uint32_t done = 0;

        want(m, uids, wanted, n);
        sort_loader_init(&l, m);
        cr_assert(sort_loader_run(&l, wanted, facts, n, &done, never, NULL));
        for (uint32_t i = 0; i < n; i++)
                cr_expect(span_eq_str(sort_facts_text(facts[i], SORT_TEXT_SUBJECT), subjects[i]), "uid %u", uids[i]);
        sort_loader_deinit(&l);
}

static void append(struct store *st, struct mailbox *m, const char *subject, size_t size)
{
        struct str text = STR_INIT;
        struct err err = ERR_INIT;

        str_printf(&text, "Subject: %s\r\n\r\n", subject);
        while (text.len < size)
                str_append_c(&text, 'x');
        cr_assert_gt(fake_append(st, m, text.data, text.len, 0, NULL, &err), 0, "%s", err.text);
        str_deinit(&text);
}

Test(sort_cache, learns_what_it_does_not_know_and_keeps_to_its_bound, .timeout = 60)
{
        static const uint32_t two[] = { 1, 3 }, all[] = { 1, 2, 3, 4, 9 };
        static const char *const two_s[] = { "A", "C" }, *const all_s[] = { "A", "B", "C", "D", "" };
        struct store st;
        struct mailbox *m;
        const struct sort_facts *facts[5];
        struct sort_loader l;
        uint32_t done = 0;
        int slices = 0;

        fake_store_init(&st, 0);
        st.sort_cache = sort_cache_create(1 << 20);
        m = fake_create(&st, "aaaaaaaaaaaaaaaaaaaaaaaa");
        append(&st, m, "a", 10);
        append(&st, m, "b", 200000);                            /* a blob */
        append(&st, m, "c", 2000);
        append(&st, m, "d", 60000);
        expect_subjects(m, two, two_s, 2);
        cr_assert_gt(sort_cache_bytes(st.sort_cache), 0);
        expect_subjects(m, all, all_s, 5);                      /* 9: there is none */
        expect_subjects(m, two, two_s, 2);
        sort_cache_resize(st.sort_cache, 0);
        cr_assert_eq(sort_cache_bytes(st.sort_cache), 0);
        expect_subjects(m, all, all_s, 5);
        cr_assert_eq(sort_cache_bytes(st.sort_cache), 0);
        for (int i = 0; i < 200; i++)
                append(&st, m, "more", 100);
        {
                uint32_t many[200];
                const struct sort_facts *more[200];
                struct sort_wanted wanted[200];

                for (uint32_t i = 0; i < 200; i++)
                        many[i] = 5 + i;
                want(m, many, wanted, 200);
                sort_loader_init(&l, m);
                while (!sort_loader_run(&l, wanted, more, 200, &done, always, &slices))
                        ;
                cr_assert_geq(slices, 3);
                for (uint32_t i = 0; i < 200; i++)
                        cr_assert(span_eq_str(sort_facts_text(more[i], SORT_TEXT_SUBJECT), "MORE"));
                sort_loader_deinit(&l);
        }
        (void)facts;
        mailbox_unref(&m);
        sort_cache_destroy(&st.sort_cache);
        fake_store_deinit(&st);
}

/* ---- the file ---- */

#define FILED 130                               /* messages: two chunks of one block, and a few more that are in none */

struct filed {
        struct store st;
        struct mailbox *m;
        struct sort_wanted wanted[FILED];
        char path[200];
};

static void number_name(struct str *s, uint32_t uid)
{
        str_clear(s);
        str_printf(s, "NUMBER %u", uid);
}

/* The subjects of the first n, of a store whose memory knows nothing. */
static void expect_filed_subjects(struct filed *f, uint32_t n, const char *what)
{
        const struct sort_facts *facts[FILED];
        struct str name = STR_INIT;
        struct sort_loader l;
        uint32_t done = 0;

        sort_cache_destroy(&f->st.sort_cache);
        f->st.sort_cache = sort_cache_create(1 << 20);
        sort_loader_init(&l, f->m);
        cr_assert(sort_loader_run(&l, f->wanted, facts, n, &done, never, NULL));
        for (uint32_t i = 0; i < n; i++) {
                number_name(&name, f->wanted[i].uid);
                cr_assert(span_eq_str(sort_facts_text(facts[i], SORT_TEXT_SUBJECT), name.data), "%s: uid %u", what, f->wanted[i].uid);
        }
        sort_loader_deinit(&l);
        str_deinit(&name);
}

static void filed_init(struct filed *f)
{
        uint32_t uids[FILED];
        struct str name = STR_INIT;

        fake_store_init(&f->st, 0);
        f->st.sort_cache = sort_cache_create(1 << 20);
        f->m = fake_create(&f->st, "aaaaaaaaaaaaaaaaaaaaaaaa");
        for (uint32_t i = 0; i < FILED; i++) {
                uids[i] = i + 1;
                number_name(&name, i + 1);
                append(&f->st, f->m, name.data, 10);
        }
        want(f->m, uids, f->wanted, FILED);
        snprintf(f->path, sizeof f->path, "%s/sort", atomic_load(&f->m->dir));
        str_deinit(&name);
}

static void filed_deinit(struct filed *f)
{
        mailbox_unref(&f->m);
        sort_cache_destroy(&f->st.sort_cache);
        fake_store_deinit(&f->st);
}

static void slurp(const struct filed *f, struct str *out)
{
        struct err err = ERR_INIT;

        str_clear(out);
        cr_assert_eq(fs_slurp(f->path, 1 << 20, out, &err), 0, "%s", err.text);
}

static void put_back(const struct filed *f, struct span octets)
{
        int fd = open(f->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        cr_assert_eq(write(fd, octets.p, octets.len), (ssize_t)octets.len);
        close(fd);
}

Test(sort_file, what_was_read_is_read_from_there_after_a_start, .timeout = 60)
{
        struct filed f;
        struct str file = STR_INIT;
        char *word;
        uint32_t crc;

        filed_init(&f);
        expect_filed_subjects(&f, 60, "few");
        cr_expect_not(fs_exists(f.path), "a few are not worth a file");
        expect_filed_subjects(&f, 64, "one chunk");
        slurp(&f, &file);
        expect_filed_subjects(&f, FILED, "two chunks");
        crc = (uint32_t)file.len;
        slurp(&f, &file);
        cr_assert_gt(file.len, crc, "the others were added");
        str_truncate(&file, crc);
        word = memmem(file.data, file.len, "NUMBER 17", 9);     /* now see that it is the file which answers */
        cr_assert_not_null(word);
        memcpy(word, "NUMBER 71", 9);
        crc = crc32c(0, file.data + 8, file.len - 8);
        memcpy(file.data + 4, &crc, sizeof crc);
        put_back(&f, str_span(&file));
        {
                const struct sort_facts *facts[FILED];
                struct sort_loader l;
                uint32_t done = 0;

                sort_cache_resize(f.st.sort_cache, 0);
                sort_cache_resize(f.st.sort_cache, 1 << 20);
                sort_loader_init(&l, f.m);
                cr_assert(sort_loader_run(&l, f.wanted, facts, FILED, &done, never, NULL));
                cr_expect(span_eq_str(sort_facts_text(facts[16], SORT_TEXT_SUBJECT), "NUMBER 71"));
                cr_expect(span_eq_str(sort_facts_text(facts[70], SORT_TEXT_SUBJECT), "NUMBER 71"));
                sort_loader_deinit(&l);
        }
        f.wanted[16].check ^= 1;                                /* of another message with that UID it knows nothing */
        {
                const struct sort_facts *facts[FILED];
                struct sort_loader l;
                uint32_t done = 0;

                sort_loader_init(&l, f.m);
                cr_assert(sort_loader_run(&l, f.wanted, facts, FILED, &done, never, NULL));
                cr_expect_eq(facts[16], &sort_facts_none);
                sort_loader_deinit(&l);
        }
        str_deinit(&file);
        filed_deinit(&f);
}

/* A power loss leaves any of it, in any state; bit rot too. */
Test(sort_file, damaged_or_torn_anywhere_it_is_made_anew, .timeout = 120)
{
        struct filed f;
        struct str file = STR_INIT, damaged = STR_INIT, now = STR_INIT;

        filed_init(&f);
        expect_filed_subjects(&f, 64, "first");
        expect_filed_subjects(&f, FILED, "second");
        slurp(&f, &file);
        for (size_t i = 0; i < file.len; i++) {
                str_clear(&damaged);
                str_append_span(&damaged, str_span(&file));
                damaged.data[i] ^= (char)(1 << i % 8);
                put_back(&f, str_span(&damaged));
                expect_filed_subjects(&f, FILED, "flipped");
                expect_filed_subjects(&f, FILED, "flipped, after the next start");
                if (i % 7)
                        continue;
                put_back(&f, (struct span){ file.data, i });
                expect_filed_subjects(&f, FILED, "torn");
                expect_filed_subjects(&f, FILED, "torn, after the next start");
                memset(damaged.data + i, 0, damaged.len - i);
                put_back(&f, str_span(&damaged));
                expect_filed_subjects(&f, FILED, "never written");
                expect_filed_subjects(&f, FILED, "never written, after the next start");
        }
        slurp(&f, &now);
        cr_expect_leq(now.len, 2 * file.len, "it does not grow with its accidents");
        str_deinit(&file);
        str_deinit(&damaged);
        str_deinit(&now);
        filed_deinit(&f);
}

static int no_space(const char *call)
{
        return strcmp(call, "write") == 0 || strcmp(call, "open") == 0 ? ENOSPC : 0;
}

Test(sort_file, is_done_without_where_it_cannot_be_written, .timeout = 60)
{
        struct filed f;

        filed_init(&f);
        fs_fault = no_space;
        expect_filed_subjects(&f, FILED, "nothing can be written");
        fs_fault = NULL;
        cr_expect_not(fs_exists(f.path));
        expect_filed_subjects(&f, FILED, "again");
        cr_expect(fs_exists(f.path));
        filed_deinit(&f);
}

/* Headers of purged messages do not outlive their octets. */
Test(sort_file, goes_when_the_mailbox_is_compacted, .timeout = 60)
{
        struct filed f;
        struct uidset uids = UIDSET_INIT, done = UIDSET_INIT;
        struct purged purged = { 0 };
        struct waiter w;
        struct err err = ERR_INIT;

        filed_init(&f);
        for (int i = 0; i < 20; i++)
                append(&f.st, f.m, "large", 60000);
        expect_filed_subjects(&f, FILED, "before");
        cr_assert(fs_exists(f.path));
        uidset_add_range(&uids, FILED + 1, FILED + 20);
        waiter_init_blocking(&w);
        cr_assert_eq(mailbox_expunge(f.m, &uids, false, &done, NULL, &w, &err), 0, "%s", err.text);
        cr_assert_eq(waiter_block(&w, &err), 0, "%s", err.text);
        cr_assert_eq(mailbox_purge_expunged(f.m, INT64_MAX, &purged, &err), 0, "%s", err.text);
        cr_assert_eq(mailbox_compact(f.m, &err), 0, "%s", err.text);
        cr_expect_not(fs_exists(f.path));
        expect_filed_subjects(&f, FILED, "after");
        uidset_deinit(&uids);
        uidset_deinit(&done);
        filed_deinit(&f);
}

/* ---- threads: the steps of RFC 5256 3 done literally, with lists ---- */

#define MODEL_MAX 400
struct m_node {
        int message;                            /* -1: dummy */
        struct m_node *parent;
        struct m_node *child[MODEL_MAX];
        int n;
};
static struct m_node m_pool[MODEL_MAX];
static int m_pool_n;
static const struct thread_message *m_messages;

static struct m_node *m_new(int message)
{
        struct m_node *x = &m_pool[m_pool_n++];

        cr_assert_lt(m_pool_n, MODEL_MAX);
        memset(x, 0, sizeof *x);
        x->message = message;
        return x;
}

static void m_remove(struct m_node *x)
{
        struct m_node *p = x->parent;
        int at = 0;

        while (p->child[at] != x)
                at++;
        memmove(p->child + at, p->child + at + 1, (size_t)(--p->n - at) * sizeof *p->child);
        x->parent = NULL;
}

static void m_add(struct m_node *p, struct m_node *x)
{
        if (x->parent)
                m_remove(x);
        x->parent = p;
        p->child[p->n++] = x;
}

static bool m_is_below(const struct m_node *x, const struct m_node *top)
{
        for (; x; x = x->parent)
                if (x == top)
                        return true;
        return false;
}

static int m_before(const struct m_node *a, const struct m_node *b);

static int m_first(const struct m_node *x)
{
        const struct m_node *best;

        if (x->message >= 0)
                return x->message;
        best = x->child[0];
        for (int i = 1; i < x->n; i++)
                if (m_before(x->child[i], best))
                        best = x->child[i];
        return best->message;
}

static int m_before(const struct m_node *a, const struct m_node *b)
{
        int i = m_first(a), k = m_first(b);

        return m_messages[i].sent != m_messages[k].sent ? m_messages[i].sent < m_messages[k].sent : i < k;
}

static void m_sort(struct m_node *p)
{
        for (int i = 1; i < p->n; i++)
                for (int k = i; k > 0 && m_before(p->child[k], p->child[k - 1]); k--) {
                        struct m_node *t = p->child[k];

                        p->child[k] = p->child[k - 1];
                        p->child[k - 1] = t;
                }
}

/* Step 3, below x. */
static void m_prune(struct m_node *root, struct m_node *x)
{
        for (int i = 0; i < x->n;) {
                struct m_node *c = x->child[i];

                m_prune(root, c);
                if (c->message < 0 && c->n == 0) {
                        m_remove(c);
                        continue;
                }
                if (c->message < 0 && (x != root || c->n == 1)) {
                        m_remove(c);
                        while (c->n)
                                m_add(x, c->child[0]);
                        i = 0;                                  /* once more: order does not matter here */
                        continue;
                }
                i++;
        }
}

static void m_sort_all(struct m_node *x)
{
        for (int i = 0; i < x->n; i++)
                m_sort_all(x->child[i]);
        m_sort(x);
}

static void m_subjects(struct m_node *root)
{
        struct { uint64_t subject; struct m_node *x; } table[MODEL_MAX];
        struct m_node *all[MODEL_MAX];
        int n = 0, all_n = root->n;

        memcpy(all, root->child, sizeof all);
        for (int i = 0; i < all_n; i++) {
                struct m_node *x = all[i];
                const struct sort_facts *f = m_messages[m_first(x)].facts;
                int k;

                if (!f->subject)
                        continue;
                for (k = 0; k < n && table[k].subject != f->subject; k++)
                        ;
                if (k == n) {
                        table[n].subject = f->subject;
                        table[n++].x = x;
                } else if (table[k].x->message >= 0 && (x->message < 0 || (m_messages[table[k].x->message].facts->reply && !f->reply))) {
                        table[k].x = x;
                }
        }
        for (int i = 0; i < all_n; i++) {
                struct m_node *x = all[i], *t, *dummy;
                const struct sort_facts *f;
                int k;

                if (x->parent != root)
                        continue;
                f = m_messages[m_first(x)].facts;
                for (k = 0; k < n && table[k].subject != f->subject; k++)
                        ;
                if (!f->subject || table[k].x == x)
                        continue;
                t = table[k].x;
                if (t->message < 0 && x->message < 0) {
                        while (x->n)
                                m_add(t, x->child[0]);
                        m_remove(x);
                } else if (t->message < 0 || (f->reply && !m_messages[t->message].facts->reply)) {
                        m_add(t, x);
                } else {
                        dummy = m_new(-1);
                        m_add(dummy, x);
                        m_add(dummy, t);
                        m_add(root, dummy);
                        table[k].x = dummy;
                }
        }
}

static void m_print(const struct m_node *x, struct str *out)
{
        if (x->message >= 0)
                str_append_u64(out, m_messages[x->message].number);
        if (x->n && x->message >= 0)
                str_append_c(out, ' ');
        for (int i = 0; i < x->n; i++) {
                if (x->n > 1)
                        str_append_c(out, '(');
                m_print(x->child[i], out);
                if (x->n > 1)
                        str_append_c(out, ')');
        }
}

static int64_t m_latest(const struct m_node *x)
{
        int64_t latest = x->message >= 0 ? m_messages[x->message].internaldate : INT64_MIN;

        for (int i = 0; i < x->n; i++)
                if (m_latest(x->child[i]) > latest)
                        latest = m_latest(x->child[i]);
        return latest;
}

static void model(bool refs, const struct thread_message *messages, int n, struct str *out)
{
        struct { uint64_t id; struct m_node *x; } ids[MODEL_MAX];
        struct m_node *root;
        int ids_n = 0, nodes;

        m_messages = messages;
        m_pool_n = 0;
        root = m_new(-1);
        for (int i = 0; i < n; i++) {
                const struct sort_facts *f = messages[i].facts;
                struct m_node *own = NULL, *before = NULL;

                for (int k = 0; k < ids_n; k++)
                        if (f->message_id && ids[k].id == f->message_id)
                                own = ids[k].x;
                if (own && own->message < 0) {
                        own->message = i;
                } else {
                        bool duplicate = own != NULL;

                        own = m_new(i);
                        if (!duplicate && f->message_id) {
                                ids[ids_n].id = f->message_id;
                                ids[ids_n++].x = own;
                        }
                }
                for (int r = 0; r < f->references; r++) {
                        struct m_node *ref = NULL;

                        for (int k = 0; k < ids_n; k++)
                                if (ids[k].id == sort_facts_references(f)[r])
                                        ref = ids[k].x;
                        if (!ref) {
                                ref = m_new(-1);
                                ids[ids_n].id = sort_facts_references(f)[r];
                                ids[ids_n++].x = ref;
                        }
                        if (before && !ref->parent && !m_is_below(before, ref))
                                m_add(before, ref);
                        before = ref;
                }
                if (own->parent)
                        m_remove(own);
                if (before && !m_is_below(before, own))
                        m_add(before, own);
        }
        nodes = m_pool_n;
        for (int i = 1; i < nodes; i++)
                if (!m_pool[i].parent)
                        m_add(root, &m_pool[i]);
        m_prune(root, root);
        m_sort(root);
        if (!refs)
                m_subjects(root);
        m_sort_all(root);
        if (refs)
                for (int i = 1; i < root->n; i++)
                        for (int k = i; k > 0 && m_latest(root->child[k]) < m_latest(root->child[k - 1]); k--) {
                                struct m_node *t = root->child[k];

                                root->child[k] = root->child[k - 1];
                                root->child[k - 1] = t;
                        }
        for (int i = 0; i < root->n; i++) {
                str_append_c(out, '(');
                m_print(root->child[i], out);
                str_append_c(out, ')');
        }
}

static void threads(enum thread_algorithm algorithm, const struct thread_message *messages, uint32_t n, uint32_t budget, struct str *out)
{
        struct thread_job *j = thread_create(algorithm, messages, n);

        while (!thread_run(j, budget))
                ;
        while (!thread_print(j, out, 1 + budget))
                ;
        thread_destroy(&j);
}

Test(thread, is_what_the_steps_of_the_rfc_give, .timeout = 120)
{
        struct { struct sort_facts f; uint64_t refs[4]; } facts[40];
        struct thread_message messages[40];
        struct str a = STR_INIT, b = STR_INIT;

        for (unsigned seed = 1; seed < 6000; seed++) {
                int n = (int)(seed % 40) + 1, ids = n + 3, subjects = 1 + (int)(seed % 7) * 3;

                srand(seed);
                memset(facts, 0, sizeof facts);
                for (int i = 0; i < n; i++) {
                        facts[i].f.message_id = (uint64_t)(rand() % ids);
                        facts[i].f.references = (uint8_t)(rand() % 5);
                        for (int k = 0; k < facts[i].f.references; k++)
                                facts[i].refs[k] = (uint64_t)(1 + rand() % ids);
                        facts[i].f.subject = (uint64_t)(rand() % subjects);
                        facts[i].f.reply = rand() % 2;
                        messages[i] = (struct thread_message){ (uint32_t)i + 1, rand() % 20, rand() % 20, &facts[i].f };
                }
                for (int refs = 0; refs < 2; refs++) {
                        str_clear(&a);
                        str_clear(&b);
                        model(refs, messages, n, &a);
                        threads(refs ? THREAD_REFS : THREAD_REFERENCES, messages, (uint32_t)n, seed % 11 + 1, &b);
                        cr_assert_str_eq(a.data, b.data, "seed %u: model %s, not %s", seed, a.data, b.data);
                }
        }
        str_deinit(&a);
        str_deinit(&b);
}

/* Pairs, then each pair is put under the one before: the way to the top gets longer and longer, and each link asks for it. */
Test(thread, deep_chains_are_not_quadratic, .timeout = 60)
{
        enum { N = 200000 };
        struct facts2 { struct sort_facts f; uint64_t refs[2]; } *facts = calloc(N, sizeof *facts);
        struct thread_message *messages = calloc(N, sizeof *messages);
        struct str out = STR_INIT, want = STR_INIT;

        for (uint64_t i = 0; i < N; i++) {                      /* 1 → 2, 3 → 4, …; then 2 → 3, 4 → 5, … */
                uint64_t k = i < N / 2 ? 2 * i + 1 : 2 * (i - N / 2) + 2;

                facts[i].f.message_id = (1000000 + i) * UINT64_C(0xff51afd7ed558ccd);
                facts[i].f.references = 2;
                facts[i].refs[0] = k * UINT64_C(0xff51afd7ed558ccd);
                facts[i].refs[1] = (k + 1) * UINT64_C(0xff51afd7ed558ccd);
                messages[i] = (struct thread_message){ (uint32_t)i + 1, (int64_t)i, (int64_t)i, &facts[i].f };
        }
        threads(THREAD_REFERENCES, messages, N, 1000, &out);
        str_append_c(&want, '(');
        for (unsigned i = 1; i <= N; i++)
                str_printf(&want, "(%u)", i);                   /* all of the chain are dummies: one thread */
        str_append_c(&want, ')');
        cr_assert(span_eq(str_span(&out), str_span(&want)));
        str_deinit(&want);
        str_deinit(&out);
        free(facts);
        free(messages);
}
