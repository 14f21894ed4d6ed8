/* mailbox_race - many threads append, flag, expunge, copy, move and read at once, and the mailboxes change partition (SAN=thread): nothing lost, nothing double. TAP. */
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

#include "store/mailbox_private.h"
#include "t/store/fake_store.h"
#include "util/clock.h"

static struct store st;
static struct mailbox *a, *b;
static atomic_uint appended, moved, expunged, news, relocated;
static atomic_bool stop;
static const char text[] = "Subject: race\r\n\r\nbody\r\n";

static void *appender(void *arg)
{
        unsigned n = (unsigned)(uintptr_t)arg;

        for (unsigned i = 0; i < n; i++) {
                struct err err = ERR_INIT;

                if (fake_append(&st, i % 2 ? a : b, text, sizeof text - 1, i % 3 ? 0 : MSG_SEEN, i % 7 ? NULL : "kw", &err))
                        atomic_fetch_add(&appended, 1);
        }
        return NULL;
}

static void *flagger(void *arg)
{
        (void)arg;
        for (unsigned i = 0; !atomic_load(&stop); i++) {
                struct uidset uids = UIDSET_INIT;
                struct span kw = span_of(i % 2 ? "alpha" : "beta");
                struct flag_change change = { .how = i % 3 == 0 ? FLAGS_REMOVE : FLAGS_ADD, .flags = i % 5 ? MSG_FLAGGED : MSG_DELETED,
                                              .keywords = &kw, .keyword_count = 1 };
                struct waiter w;
                struct err err = ERR_INIT;
                uint64_t modseq;

                uidset_add_range(&uids, 1 + i % 50, 5 + i % 50);
                waiter_init_blocking(&w);
                if (mailbox_store_flags(a, &uids, &change, UINT64_MAX, NULL, NULL, &modseq, &w, &err) == 0)
                        waiter_block(&w, &err);
                uidset_deinit(&uids);
                if (i % 20 == 19) {
                        struct uidset gone = UIDSET_INIT;

                        waiter_init_blocking(&w);
                        if (mailbox_expunge(a, NULL, true, &gone, NULL, &w, &err) == 0 && waiter_block(&w, &err) == 0)
                                atomic_fetch_add(&expunged, (unsigned)uidset_count(&gone));
                        uidset_deinit(&gone);
                }
                usleep(500);
        }
        return NULL;
}

static void *mover(void *arg)
{
        for (unsigned i = (unsigned)(uintptr_t)arg; !atomic_load(&stop); i++) {         /* movers cross each other */
                struct mailbox *from = i % 2 ? a : b, *to = i % 7 < 2 ? from : i % 2 ? b : a;
                struct uidset uids = UIDSET_INIT;
                struct append_result r;
                struct waiter w;
                struct err err = ERR_INIT;

                uidset_add_range(&uids, 1 + i, 3 + i);
                waiter_init_blocking(&w);
                if (mailbox_move(from, &uids, to, NULL, NULL, &r, &w, &err) == 0 && waiter_block(&w, &err) == 0)
                        atomic_fetch_add(&moved, r.count);
                uidset_deinit(&uids);
                usleep(200);
        }
        return NULL;
}

/* To another partition and back, all the time. */
static void *relocator(void *arg)
{
        struct mailbox *m = arg;
        char other[100];

        snprintf(other, sizeof other, "%s.other", st.dir);
        must(fs_mkdir_p(other, 0700, NULL) == 0);
        for (unsigned i = 0, n = 0; !atomic_load(&stop) || i % 2; n++) {
                const char *from = i % 2 ? other : st.dir, *to = i % 2 ? st.dir : other;
                struct relocation *r;
                struct err err = ERR_INIT;

                must(relocation_begin(m, to, &r, &err) == 0);
                must(relocation_copy(r, NULL, NULL, &err) == 0);
                must(relocation_join(r, NULL, NULL, &err) == 0);
                must(relocation_decide(r, &err) == 0);
                if (n % 5 == 4) {
                        relocation_abort(&r, NULL);
                } else {
                        i++;
                        relocation_finish(&r);
                        relocation_remove_old(&st, m->uniqueid, from);
                        atomic_fetch_add(&relocated, 1);
                }
        }
        return NULL;
}

static void *reader(void *arg)
{
        (void)arg;
        while (!atomic_load(&stop)) {
                struct mailbox *m = fake_open(&st, mailbox_uniqueid(a));
                struct view *v = mailbox_view(m);
                struct mailbox_status s;

                mailbox_status(m, &s);
                for (uint32_t i = 1; i <= view_count(v); i += 7) {
                        struct msg msg;
                        struct extent x;
                        struct err err = ERR_INIT;

                        if (mailbox_message(m, view_uid(v, i), &msg, &err) == 0 && mailbox_body(m, &msg, &x, &err) == 0) {
                                must(x.len == sizeof text - 1);
                                file_unref(&x.file);
                        }
                        if (msg.kwset)
                                must(mailbox_kwset(m, msg.kwset)->n > 0);
                }
                view_unref(&v);
                mailbox_unref(&m);
        }
        return NULL;
}

static void *maintainer(void *arg)
{
        (void)arg;
        for (unsigned i = 0; !atomic_load(&stop); i++) {
                struct err err = ERR_INIT;

                must(mailbox_checkpoint(i % 2 ? a : b, &err) == 0);
                if (i % 4 == 0) {
                        must(mailbox_purge_expunged(a, INT64_MAX, NULL, &err) == 0);
                        mailbox_maintain_begin(a);
                        must(mailbox_roll(a, &err) == 0 && mailbox_begin_next(a, &err) == 0);
                        mailbox_maintain_end(a);
                        must(mailbox_compact(a, &err) == 0);
                }
                usleep(20000);
        }
        return NULL;
}

static void on_news(struct mailbox_watch *w)
{
        (void)w;
        atomic_fetch_add(&news, 1);
}

static unsigned messages(struct mailbox *m)
{
        struct mailbox_status s;

        mailbox_status(m, &s);
        return s.messages;
}

static void problem(void *ctx, const char *mailbox, uint32_t uid, const char *what)
{
        (void)ctx;
        printf("# %s uid %u: %s\n", mailbox, uid, what);
}

static unsigned problems(const char *id)
{
        struct check_report report = { .problem = problem };
        struct mailbox_ident ident = fake_ident(&st, id);
        struct err err = ERR_INIT;

        must(mailbox_check_files(&st, &ident, &report, &err) == 0);
        return (unsigned)report.problems;
}

static unsigned n;

static void report(bool good, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void report(bool good, const char *fmt, ...)
{
        va_list ap;

        printf("%s %u - ", good ? "ok" : "not ok", ++n);
        va_start(ap, fmt);
        vprintf(fmt, ap);
        va_end(ap);
        putchar('\n');
}

/* With journals of few KiB that every sync goes by, or as the load has it. */
static void race(bool journals, unsigned each)
{
        struct logstore_options options = { .sync_threads = 4, .journal_all = journals, .journal_bytes = 32u << 10, .segment_bytes = journals ? 48u << 10 : 0 };
        struct mailbox_watch watch = { .fn = on_news };
        struct err err = ERR_INIT;
        struct logstore_stats stats;
        pthread_t writers[8], others[10];
        unsigned want, before;

        appended = moved = expunged = news = relocated = 0;
        atomic_store(&stop, false);
        fake_store_init(&st, 0);
        logstore_destroy(&st.ls);
        must(logstore_create(&st, &options, &st.ls, &err) == 0);
        a = fake_create(&st, "aaaaaaaaaaaaaaaaaaaaaaaa");
        b = fake_create(&st, "bbbbbbbbbbbbbbbbbbbbbbbb");
        mailbox_watch(a, &watch);
        for (unsigned i = 0; i < 8; i++)
                must(pthread_create(&writers[i], NULL, appender, (void *)(uintptr_t)each) == 0);
        must(pthread_create(&others[0], NULL, flagger, NULL) == 0);
        must(pthread_create(&others[1], NULL, mover, NULL) == 0);
        must(pthread_create(&others[2], NULL, reader, NULL) == 0);
        must(pthread_create(&others[3], NULL, reader, NULL) == 0);
        must(pthread_create(&others[4], NULL, maintainer, NULL) == 0);
        for (unsigned i = 5; i < 8; i++)
                must(pthread_create(&others[i], NULL, mover, (void *)(uintptr_t)i) == 0);
        must(pthread_create(&others[8], NULL, relocator, a) == 0);
        must(pthread_create(&others[9], NULL, relocator, b) == 0);
        for (unsigned i = 0; i < 8; i++)
                pthread_join(writers[i], NULL);
        atomic_store(&stop, true);
        for (unsigned i = 0; i < 10; i++)
                pthread_join(others[i], NULL);
        want = atomic_load(&appended) - atomic_load(&expunged);
        logstore_stats(st.ls, &stats);
        report(appended == 8 * each, "every append was acknowledged");
        report(messages(a) + messages(b) == want, "%u messages are there, %u + %u", want, messages(a), messages(b));
        report(atomic_load(&news) > 0, "watchers were told (%u)", news);
        report(stats.syncs < stats.commits, "concurrent commits shared syncs (%llu commits, %llu syncs)", (unsigned long long)stats.commits,
               (unsigned long long)stats.syncs);
        report(!journals || stats.journal_groups > 20, "journals: %llu syncs for %llu of mailboxes", (unsigned long long)stats.journal_groups,
               (unsigned long long)stats.journal_shared);
        mailbox_unwatch(a, &watch);
        before = messages(a);
        printf("# moved %u, expunged %u, relocated %u, compactions %llu\n", moved, expunged, relocated, (unsigned long long)stats.compactions);
        report(problems("aaaaaaaaaaaaaaaaaaaaaaaa") + problems("bbbbbbbbbbbbbbbbbbbbbbbb") == 0, "the logs are clean");
        mailbox_unref(&a);
        mailbox_unref(&b);
        logstore_destroy(&st.ls);
        must(!st.failed && !st.other_failed);
        fake_store_start(&st, 2);
        a = fake_open(&st, "aaaaaaaaaaaaaaaaaaaaaaaa");
        report(messages(a) == before, "and the same after opening again");
        mailbox_unref(&a);
        {
                char other[100];

                snprintf(other, sizeof other, "%s.other", st.dir);
                fs_remove_tree(other, NULL);
        }
        fake_store_deinit(&st);
}

int main(int argc, char **argv)
{
        unsigned each = argc > 1 ? (unsigned)atoi(argv[1]) : 150;

        race(false, each / 2);
        race(true, each / 2);
        printf("1..%u\n", n);
        return 0;
}
