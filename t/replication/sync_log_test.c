/* sync_log - lines, files, and which change writes which line (csync, section 12). */
#include "replication/sync_log.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/acl.h"
#include "store/annot.h"
#include "store/change.h"
#include "store/mailbox_private.h"
#include "store/mboxlist.h"
#include "store/quota.h"
#include "store/seen.h"
#include "store/user.h"
#include "t/store/conf_text.h"
#include "util/fs.h"
#include "util/waiter.h"

static char dir[100];
static struct err err;

static void begin(void)
{
        snprintf(dir, sizeof dir, "%s/sync-log-test.%d", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp", (int)getpid());
        fs_remove_tree(dir, NULL);
        fs_mkdir_p(dir, 0700, NULL);
        err = (struct err)ERR_INIT;
}

static void end(void)
{
        fs_remove_tree(dir, NULL);
}
TestSuite(sync_log, .init = begin, .fini = end);

/* ---- lines ---- */

static const struct { struct sync_line line; const char *text; } lines[] = {
        { { SYNC_MAILBOX, "user.user1", "" }, "MAILBOX user.user1\n" },
        { { SYNC_APPEND, "user.user1.Sent Items", "" }, "APPEND \"user.user1.Sent Items\"\n" },
        { { SYNC_DOUBLEMAILBOX, "user.a", "user.b (old)" }, "DOUBLEMAILBOX user.a \"user.b (old)\"\n" },
        { { SYNC_RENAME, "user.a.x", "DELETED.user.a.x.6B0242FA" }, "RENAME user.a.x DELETED.user.a.x.6B0242FA\n" },
        { { SYNC_UNMAILBOX, "user.a\tb", "" }, "UNMAILBOX \"user.a\tb\"\n" },
        { { SYNC_USER, "jo.e@example.org", "" }, "USER jo.e@example.org\n" },
        { { SYNC_UNUSER, "back\\slash", "" }, "UNUSER \"back\\\\slash\"\n" },
        { { SYNC_META, "a\"b", "" }, "META \"a\\\"b\"\n" },
        { { SYNC_SEEN, "user2", "9ypb8ezu1p33r946t07aj1sa" }, "SEEN user2 9ypb8ezu1p33r946t07aj1sa\n" },
        { { SYNC_SUB, "user2", "shared.{x}" }, "SUB user2 \"shared.\\{x\\}\"\n" },
        { { SYNC_QUOTA, "user.user1", "" }, "QUOTA user.user1\n" },
        { { SYNC_ANNOTATION, "", "" }, "ANNOTATION \"\"\n" },
        { { SYNC_RESYNC, "", "" }, "RESYNC\n" },
        { { SYNC_MAILBOX, "user.a.Entw&APw-rfe~peter", "" }, "MAILBOX user.a.Entw&APw-rfe~peter\n" },
};

Test(sync_log, what_is_written_is_read_again)
{
        for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
                struct arena arena = ARENA_INIT;
                struct str out = STR_INIT;
                struct sync_line l;

                cr_assert(sync_line_write(&out, &lines[i].line));
                cr_expect_str_eq(out.data, lines[i].text);
                cr_assert_eq(sync_line_parse((struct span){ out.data, out.len - 1 }, &arena, &l, &err), 0, "%s: %s", out.data, err.text);
                cr_expect_eq(l.kind, lines[i].line.kind);
                cr_expect_str_eq(l.a, lines[i].line.a);
                cr_expect_str_eq(l.b, lines[i].line.b);
                str_deinit(&out);
                arena_deinit(&arena);
        }
}

Test(sync_log, other_words_are_read_and_nonsense_is_not)
{
        static const struct { const char *text; int rc; enum sync_kind kind; const char *a; } table[] = {
                { "SIEVE user1", 0, SYNC_META, "user1" }, { "UNSUB user1 shared", 0, SYNC_SUB, "user1" }, { "mailbox a", 0, SYNC_MAILBOX, "a" },
                { "MAILBOX a\r", 0, SYNC_MAILBOX, "a" }, { "MAILBOX a\\ b", 0, SYNC_MAILBOX, "a b" },
                { "", -1, 0, NULL }, { "MAILBOX", -1, 0, NULL }, { "MAILBOX a b", -1, 0, NULL }, { "SEEN a", -1, 0, NULL }, { "HELLO a", -1, 0, NULL },
                { "MAILBOX \"a", -1, 0, NULL }, { "MAILBOX a\\", -1, 0, NULL }, { "MAILBOX \"a\"b", -1, 0, NULL }, { "RESYNC x", -1, 0, NULL },
                { "SUB a b c", -1, 0, NULL }, { " MAILBOX a", -1, 0, NULL }, { "SUB a  b", -1, 0, NULL },
        };
        for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
                struct arena arena = ARENA_INIT;
                struct sync_line l;

                cr_expect_eq(sync_line_parse(span_of(table[i].text), &arena, &l, &err), table[i].rc, "%s", table[i].text);
                if (table[i].rc == 0) {
                        cr_expect_eq(l.kind, table[i].kind, "%s", table[i].text);
                        cr_expect_str_eq(l.a, table[i].a);
                }
                arena_deinit(&arena);
        }
}

Test(sync_log, a_name_with_a_line_end_is_refused)
{
        struct str out = STR_INIT;

        cr_expect(!sync_line_write(&out, &(struct sync_line){ SYNC_MAILBOX, "a\nMAILBOX b", "" }));
        cr_expect(!sync_line_write(&out, &(struct sync_line){ SYNC_SUB, "a", "b\r" }));
        cr_expect_eq(out.len, 0);
}

/* ---- files ---- */

struct gathered { struct str text; unsigned n, bad; };

static void gather(void *ctx, const struct sync_line *l)
{
        struct gathered *g = ctx;

        sync_line_write(&g->text, l);
        g->n++;
}

static void gather_bad(void *ctx, struct span text)
{
        (void)text;
        ((struct gathered *)ctx)->bad++;
}

static struct gathered read_fd(int fd)
{
        struct gathered g = { STR_INIT, 0, 0 };

        cr_assert_eq(sync_log_read(fd, gather, gather_bad, &g, &err), 0, "%s", err.text);
        close(fd);
        return g;
}

Test(sync_log, log_becomes_log_run_and_a_log_run_that_is_there_comes_first)
{
        struct gathered g;
        char path[200];
        int fd;

        cr_assert_eq(sync_log_take(dir, "chan", &fd, &err), 0);
        cr_assert_eq(sync_log_append(dir, "chan", SPAN("MAILBOX a\nrubbish\nMAILBOX b\n"), true, &err), 0, "%s", err.text);
        cr_assert_eq(sync_log_take(dir, "chan", &fd, &err), 1, "%s", err.text);
        g = read_fd(fd);
        cr_expect_str_eq(g.text.data, "MAILBOX a\nMAILBOX b\n");
        cr_expect_eq(g.bad, 1);
        str_deinit(&g.text);
        cr_assert_eq(sync_log_append(dir, "chan", SPAN("MAILBOX c\n"), false, &err), 0);
        cr_assert_eq(sync_log_take(dir, "chan", &fd, &err), 1);
        g = read_fd(fd);
        cr_expect_str_eq(g.text.data, "MAILBOX a\nMAILBOX b\n");
        str_deinit(&g.text);
        cr_assert_eq(sync_log_done(dir, "chan", &err), 0);
        cr_assert_eq(sync_log_take(dir, "chan", &fd, &err), 1);
        g = read_fd(fd);
        cr_expect_str_eq(g.text.data, "MAILBOX c\n");
        str_deinit(&g.text);
        snprintf(path, sizeof path, "%s/sync/chan/log", dir);
        cr_expect(!fs_exists(path));
}

Test(sync_log, a_torn_last_line_and_an_endless_one_are_passed_over)
{
        struct str text = STR_INIT;
        struct gathered g;
        int fd;

        str_append_str(&text, "MAILBOX a\nMAILBOX ");
        for (int i = 0; i < 200000; i++)
                str_append_c(&text, 'x');
        str_append_str(&text, "\nMAILBOX b\nMAILBOX c");
        cr_assert_eq(sync_log_append(dir, NULL, str_span(&text), false, &err), 0);
        cr_assert_eq(sync_log_take(dir, NULL, &fd, &err), 1);
        g = read_fd(fd);
        cr_expect_str_eq(g.text.data, "MAILBOX a\nMAILBOX b\n");
        cr_expect_eq(g.bad, 2);
        str_deinit(&g.text);
        str_deinit(&text);
}

Test(sync_log, half_a_line_that_somebody_left_is_not_ours)
{
        struct gathered g;
        int fd;

        cr_assert_eq(sync_log_append(dir, NULL, SPAN("MAILBOX a\nMAILBOX b"), false, &err), 0);
        cr_assert_eq(sync_log_append(dir, NULL, SPAN("MAILBOX c\n"), false, &err), 0);
        cr_assert_eq(sync_log_take(dir, NULL, &fd, &err), 1);
        g = read_fd(fd);
        cr_expect_str_eq(g.text.data, "MAILBOX a\nMAILBOX b\nMAILBOX c\n");
        cr_expect_eq(g.bad, 0);
        str_deinit(&g.text);
}

/* ---- from a store ---- */

struct logged { struct store *store; struct sync_log *log; struct conf *conf; };

static struct logged open_all(const char *options, bool threads)
{
        struct logged l = { 0 };
        struct store_options o = { .no_threads = !threads };
        char conf[1000];

        snprintf(conf, sizeof conf, "configdirectory: %s/conf\npartition-default: %s/mail\npartition-two: %s/two\ndefaultpartition: default\n%s", dir, dir,
                 dir, options);
        l.conf = o.conf = conf_text(conf);
        cr_assert_eq(store_open(&o, &l.store, &err), 0, "%s", err.text);
        cr_assert_eq(sync_log_open(&(struct sync_log_options){ .store = l.store, .conf = l.conf, .threads = threads }, &l.log, &err), 0, "%s", err.text);
        return l;
}

static void close_all(struct logged *l)
{
        sync_log_store_closing(l->log);
        store_close(&l->store);
        sync_log_close(&l->log);
        conf_unref(&l->conf);
}

/* Everything in a channel's log, which is then gone. */
static void expect_log(const char *channel, const char *what)
{
        char conf[200];
        struct gathered g = { STR_INIT, 0, 0 };
        int fd;

        snprintf(conf, sizeof conf, "%s/conf", dir);
        if (sync_log_take(conf, channel, &fd, &err) == 1)
                g = read_fd(fd);
        sync_log_done(conf, channel, &err);
        cr_expect_str_eq(g.text.data, what, "logged:\n%s\nnot:\n%s", g.text.data, what);
        cr_expect_eq(g.bad, 0);
        str_deinit(&g.text);
}

static void create(struct logged *l, const char *name)
{
        cr_assert_eq(mboxlist_create(store_mboxlist(l->store), &(struct mbox_create){ .name = name }, NULL, &err), 0, "%s", err.text);
}

static struct mailbox *open_box(struct logged *l, const char *name)
{
        const struct mbentry *e = mboxlist_find(store_mboxlist(l->store), name);
        struct mailbox_ident ident;
        struct mailbox *m;

        cr_assert_not_null(e);
        cr_assert_eq(mbentry_ident(l->store, e, &ident, &err), 0);
        cr_assert_eq(mailbox_open(l->store, &ident, &m, &err), 0, "%s", err.text);
        mbentry_unref(&e);
        return m;
}

static void append(struct logged *l, struct mailbox *m)
{
        static const char text[] = "Subject: test\r\n\r\nbody\r\n";
        struct append_item item = { .internaldate = INT64_MIN, .savedate = INT64_MIN };
        struct append_result result;
        struct waiter w;

        cr_assert_eq(stage_begin(l->store, store_partition_dir(l->store, "default"), sizeof text, &item.stage, &err), 0);
        cr_assert(stage_write(item.stage, text, sizeof text - 1, &err) == 0 && stage_finish(item.stage, &err) == 0);
        waiter_init_blocking(&w);
        cr_assert(mailbox_append(m, &item, 1, &result, &w, &err) == 0 && waiter_block(&w, &err) == 0, "%s", err.text);
        stage_unref(&item.stage);
}

Test(sync_log, first_everything_is_to_be_compared_and_after_a_clean_stop_nothing)
{
        struct logged l = open_all("sync_log: yes\n", false);

        close_all(&l);
        expect_log(NULL, "RESYNC\n");
        l = open_all("sync_log: yes\n", false);
        close_all(&l);
        expect_log(NULL, "");
}

static void die_in_a_child(bool and_complete)
{
        int status;
        pid_t pid = fork();

        if (pid == 0) {
                struct logged l = open_all("sync_log: yes\n", false);

                if (and_complete) {             /* the log was closed, and then the store was not */
                        sync_log_store_closing(l.log);
                        sync_log_close(&l.log);
                }
                _exit(0);
        }
        waitpid(pid, &status, 0);
        cr_assert_eq(status, 0);
}

Test(sync_log, after_a_kill_everything_is_to_be_compared)
{
        struct logged l = open_all("sync_log: yes\n", false);

        close_all(&l);
        expect_log(NULL, "RESYNC\n");
        die_in_a_child(false);
        expect_log(NULL, "");
        l = open_all("sync_log: yes\n", false);
        close_all(&l);
        expect_log(NULL, "RESYNC\n");
        die_in_a_child(true);
        l = open_all("sync_log: yes\n", false);
        close_all(&l);
        expect_log(NULL, "RESYNC\n");
        l = open_all("sync_log: yes\n", false);
        close_all(&l);
        expect_log(NULL, "");
}

Test(sync_log, what_changed_while_nobody_logged_is_to_be_compared)
{
        struct logged l = open_all("sync_log: yes\n", false);

        close_all(&l);
        expect_log(NULL, "RESYNC\n");
        l = open_all("", false);
        create(&l, "user.joe");
        close_all(&l);
        expect_log(NULL, "");
        l = open_all("sync_log: yes\nsync_log_channels: \"\" two\n", false);
        close_all(&l);
        expect_log(NULL, "RESYNC\n");
        expect_log("two", "RESYNC\n");
        l = open_all("sync_log: yes\nsync_log_channels: two three\n", false);
        close_all(&l);
        expect_log(NULL, "");
        expect_log("two", "");
        expect_log("three", "RESYNC\n");
}

static struct logged open_quiet(const char *options)
{
        struct logged l = open_all(options, false);

        close_all(&l);
        expect_log(NULL, "RESYNC\n");
        return open_all(options, false);
}

/* Close, look, open again. */
static void check(struct logged *l, const char *options, const char *what)
{
        close_all(l);
        expect_log(NULL, what);
        *l = open_all(options, false);
}

Test(sync_log, names)                   /* csync 12 */
{
        static const char options[] = "sync_log: yes\ndelete_mode: immediate\n";
        struct logged l = open_quiet(options);
        struct mboxlist *ml;

        create(&l, "user.joe");
        create(&l, "user.joe.Sent Items");
        check(&l, options, "MAILBOX user.joe\nMAILBOX \"user.joe.Sent Items\"\n");
        ml = store_mboxlist(l.store);
        cr_assert_eq(mboxlist_rename(ml, "user.joe.Sent Items", "user.joe.Out", true, NULL, &err), 0, "%s", err.text);
        check(&l, options, "RENAME \"user.joe.Sent Items\" user.joe.Out\nMAILBOX \"user.joe.Sent Items\"\nMAILBOX user.joe.Out\n");
        ml = store_mboxlist(l.store);
        cr_assert_eq(mboxlist_set_acl(ml, "user.joe", "ann", ACL_SET, 3, &err), 0, "%s", err.text);
        cr_assert_eq(mboxlist_set_acl(ml, "user.joe", "bea", ACL_SET, 3, &err), 0, "%s", err.text);
        check(&l, options, "MAILBOX user.joe\n");
        ml = store_mboxlist(l.store);
        cr_assert_eq(mboxlist_delete(ml, "user.joe.Out", false, &err), 0, "%s", err.text);
        check(&l, options, "UNMAILBOX user.joe.Out\n");
        create(&l, "user.joe.a");
        create(&l, "user.joe.a.b");
        check(&l, options, "MAILBOX user.joe.a\nMAILBOX user.joe.a.b\n");
        ml = store_mboxlist(l.store);
        cr_assert_eq(mboxlist_delete(ml, "user.joe.a", false, &err), 0, "%s", err.text);        /* its name stays */
        check(&l, options, "MAILBOX user.joe.a\nUNMAILBOX user.joe.a\nUSER joe\n");
        ml = store_mboxlist(l.store);
        cr_assert_eq(mboxlist_delete(ml, "user.joe.a.b", false, &err), 0, "%s", err.text);
        check(&l, options, "UNMAILBOX user.joe.a\nUNMAILBOX user.joe.a.b\n");
        ml = store_mboxlist(l.store);
        cr_assert_eq(mboxlist_delete_tree(ml, "user.joe", false, &err), 0, "%s", err.text);
        check(&l, options, "UNMAILBOX user.joe\nUNUSER joe\n");
        close_all(&l);
}

Test(sync_log, users)
{
        static const char options[] = "sync_log: yes\n";
        struct logged l = open_quiet(options);

        create(&l, "user.joe");
        create(&l, "user.joe.x");
        check(&l, options, "MAILBOX user.joe\nMAILBOX user.joe.x\n");
        cr_assert_eq(mboxlist_rename(store_mboxlist(l.store), "user.joe", "user.jim", true, NULL, &err), 0, "%s", err.text);
        check(&l, options, "RENAME user.joe user.jim\nMAILBOX user.joe\nMAILBOX user.jim\nUNUSER joe\nUSER jim\n"
              "RENAME user.joe.x user.jim.x\nMAILBOX user.joe.x\nMAILBOX user.jim.x\n");
        close_all(&l);
}

Test(sync_log, a_delayed_deletion_is_a_rename)
{
        static const char options[] = "sync_log: yes\ndelete_mode: delayed\n";
        struct logged l = open_quiet(options);
        char conf[200];
        struct gathered g;
        int fd;

        create(&l, "user.joe");
        cr_assert_eq(mboxlist_delete_tree(store_mboxlist(l.store), "user.joe", false, &err), 0, "%s", err.text);
        close_all(&l);
        snprintf(conf, sizeof conf, "%s/conf", dir);
        cr_assert_eq(sync_log_take(conf, NULL, &fd, &err), 1);
        g = read_fd(fd);
        cr_expect(strncmp(g.text.data, "MAILBOX user.joe\nRENAME user.joe DELETED.user.joe.", 50) == 0, "%s", g.text.data);
        cr_expect(strstr(g.text.data, "\nMAILBOX DELETED.user.joe."), "%s", g.text.data);
        cr_expect(strstr(g.text.data, "\nUNUSER joe\n"), "%s", g.text.data);
        str_deinit(&g.text);
}

Test(sync_log, messages)
{
        static const char options[] = "sync_log: yes\n";
        struct logged l = open_quiet(options);
        struct uidset uids = UIDSET_INIT;
        struct append_result result;
        struct mailbox *joe, *ann;
        struct waiter w;

        create(&l, "user.joe");
        create(&l, "user.ann");
        check(&l, options, "MAILBOX user.joe\nMAILBOX user.ann\n");
        joe = open_box(&l, "user.joe");
        append(&l, joe);
        append(&l, joe);
        mailbox_unref(&joe);
        check(&l, options, "APPEND user.joe\nMAILBOX user.joe\n");
        joe = open_box(&l, "user.joe");
        ann = open_box(&l, "user.ann");
        uidset_add(&uids, 1);
        waiter_init_blocking(&w);
        cr_assert(mailbox_copy(joe, &uids, ann, NULL, NULL, &result, &w, &err) == 0 && waiter_block(&w, &err) == 0, "%s", err.text);
        mailbox_unref(&joe);
        mailbox_unref(&ann);
        check(&l, options, "DOUBLEMAILBOX user.joe user.ann\nAPPEND user.ann\nMAILBOX user.ann\n");
        joe = open_box(&l, "user.joe");
        ann = open_box(&l, "user.ann");
        waiter_init_blocking(&w);
        cr_assert(mailbox_move(joe, &uids, ann, NULL, NULL, &result, &w, &err) == 0 && waiter_block(&w, &err) == 0, "%s", err.text);
        mailbox_unref(&joe);
        mailbox_unref(&ann);
        check(&l, options, "MAILBOX user.joe\nDOUBLEMAILBOX user.joe user.ann\nAPPEND user.ann\nMAILBOX user.ann\n");
        joe = open_box(&l, "user.joe");
        waiter_init_blocking(&w);
        cr_assert(mailbox_expunge(joe, NULL, false, NULL, NULL, &w, &err) == 0 && waiter_block(&w, &err) == 0, "%s", err.text);
        cr_expect_eq(mailbox_claim_recent(joe), 0);
        mailbox_unref(&joe);
        check(&l, options, "MAILBOX user.joe\n");
        ann = open_box(&l, "user.ann");
        cr_assert_eq(mailbox_set_pop3_login(ann, 1700000000, &err), 0);
        mailbox_unref(&ann);
        check(&l, options, "MAILBOX user.ann\n");
        close_all(&l);
        uidset_deinit(&uids);
}

Test(sync_log, the_rest)
{
        static const char options[] = "sync_log: yes\n";
        const int64_t limit[QUOTA_RESOURCES] = { 1000, 1000, 1000, 1000 };
        const bool which[QUOTA_RESOURCES] = { true, true, true, true };
        const struct annot note = { .entry = "/comment", .user = "", .value = SPAN("x") };
        struct logged l = open_quiet(options);
        struct seen_state state = { .uids = UIDSET_INIT, .lastuid = 1 };
        char what[100];
        struct seen *seen;

        create(&l, "user.joe");
        check(&l, options, "MAILBOX user.joe\n");
        cr_assert_eq(sub_set(l.store, "joe", "user.joe", true, &err), 0);
        cr_assert_eq(sub_set(l.store, "joe", "user.joe", false, &err), 0);
        check(&l, options, "SUB joe user.joe\n");
        cr_assert_eq(quota_set(l.store, "user.joe", limit, which, false, &err), 0, "%s", err.text);
        check(&l, options, "QUOTA user.joe\n");
        cr_assert_eq(mboxlist_rename(store_mboxlist(l.store), "user.joe", "user.jim", true, NULL, &err), 0, "%s", err.text);
        check(&l, options, "QUOTA user.joe\nQUOTA user.jim\nRENAME user.joe user.jim\nMAILBOX user.joe\nMAILBOX user.jim\nUNUSER joe\nUSER jim\n");
        cr_assert_eq(quota_remove(l.store, "user.jim", &err), 0, "%s", err.text);
        check(&l, options, "QUOTA user.jim\n");
        cr_assert_eq(server_annotate(l.store, &note, 1, &err), 0, "%s", err.text);
        check(&l, options, "ANNOTATION \"\"\n");
        cr_assert_eq(seen_open(l.store, "9ypb8ezu1p33r946t07aj1sa", "ann", &seen, &err), 0);
        cr_assert_eq(seen_set(seen, &state, &err), 0, "%s", err.text);
        seen_unref(&seen);
        snprintf(what, sizeof what, "SEEN ann 9ypb8ezu1p33r946t07aj1sa\n");
        check(&l, options, what);
        change_publish(l.store, &(struct change){ .kind = CHANGE_SIEVE, .name = "joe" });
        check(&l, options, "META joe\n");
        close_all(&l);
}

Test(sync_log, what_a_peer_changed_goes_to_channels_that_cannot_be_suppressed)
{
        static const char options[] = "sync_log: yes\nsync_log_channels: \"\" squatter\n", chained[] = "sync_log: yes\nsync_log_channels: \"\" squatter\n"
                                                                                                      "sync_log_chain: yes\n";
        struct logged l = open_quiet(options);
        struct mailbox *joe;

        expect_log("squatter", "RESYNC\n");
        change_mark(CHANGE_REPLICATED);
        create(&l, "user.joe");
        joe = open_box(&l, "user.joe");
        append(&l, joe);
        change_mark(0);
        mailbox_unref(&joe);
        check(&l, options, "");
        expect_log("squatter", "MAILBOX user.joe\nAPPEND user.joe\n");
        joe = open_box(&l, "user.joe");
        append(&l, joe);
        mailbox_unref(&joe);
        check(&l, chained, "APPEND user.joe\nMAILBOX user.joe\n");
        expect_log("squatter", "APPEND user.joe\nMAILBOX user.joe\n");
        change_mark(CHANGE_REPLICATED);
        create(&l, "user.ann");
        change_mark(0);
        check(&l, chained, "MAILBOX user.ann\n");
        close_all(&l);
}

Test(sync_log, a_queue_that_overflows_becomes_resync)
{
        struct logged l = open_quiet("sync_log: yes\n");
        char name[40];

        for (unsigned i = 0; i < 40000; i++) {
                snprintf(name, sizeof name, "user.joe.%u", i);
                change_publish(l.store, &(struct change){ .kind = CHANGE_QUOTA, .name = name });
        }
        close_all(&l);
        expect_log(NULL, "RESYNC\n");
}

static void wait_until_written(struct sync_log *log, uint64_t written)
{
        struct sync_log_stats stats;

        for (int i = 0; i < 2000; i++) {
                sync_log_stats(log, &stats);
                if (stats.written >= written && !stats.queued)
                        return;
                usleep(1000);
        }
        cr_assert_fail("%lu lines written", (unsigned long)stats.written);
}

Test(sync_log, a_thread_writes_at_once_and_nothing_twice_until_the_file_is_taken)
{
        struct logged l = open_quiet("sync_log: yes\n");
        struct sync_log_stats stats;
        uint64_t since;

        close_all(&l);
        l = open_all("sync_log: yes\n", true);
        for (int i = 0; i < 100; i++) {
                change_publish(l.store, &(struct change){ .kind = CHANGE_QUOTA, .name = i % 2 ? "user.a" : "user.b" });
                if (i % 10 == 0)
                        usleep(2000);
        }
        wait_until_written(l.log, 2);
        sync_log_stats(l.log, &stats);
        cr_expect_eq(stats.lines, 100);
        cr_expect_eq(stats.written, 2);
        cr_expect_gt(sync_log_pending(l.log, "", true, &since), 1);
        cr_expect_gt(since, 0);
        expect_log(NULL, "QUOTA user.b\nQUOTA user.a\n");
        change_publish(l.store, &(struct change){ .kind = CHANGE_QUOTA, .name = "user.a" });
        wait_until_written(l.log, 3);
        expect_log(NULL, "QUOTA user.a\n");
        close_all(&l);
}

Test(sync_log, a_file_that_cannot_be_written_is_tried_again)
{
        struct logged l = open_quiet("sync_log: yes\n");
        char path[200];

        close_all(&l);
        snprintf(path, sizeof path, "%s/conf/sync/log", dir);
        cr_assert_eq(mkdir(path, 0700), 0);
        l = open_all("sync_log: yes\n", true);
        change_publish(l.store, &(struct change){ .kind = CHANGE_QUOTA, .name = "user.a" });
        usleep(50000);
        change_publish(l.store, &(struct change){ .kind = CHANGE_QUOTA, .name = "user.b" });
        usleep(50000);
        cr_assert_eq(rmdir(path), 0);
        wait_until_written(l.log, 2);
        expect_log(NULL, "QUOTA user.a\nQUOTA user.b\n");
        close_all(&l);
}

Test(sync_log, what_cannot_be_written_when_it_is_opened_is_told_and_tried_again)
{
        struct logged l;
        char path[200], why[ERR_TEXT_MAX] = "";

        snprintf(path, sizeof path, "%s/conf/sync/log", dir);
        cr_assert(fs_mkdir_p(path, 0700, &err) == 0, "%s", err.text);
        l = open_all("sync_log: yes\n", true);
        cr_expect(sync_log_trouble(l.log, NULL, why, sizeof why) && strstr(why, "sync/log"), "%s", why);
        cr_assert_eq(rmdir(path), 0);
        for (int i = 0; i < 300 && sync_log_trouble(l.log, NULL, why, sizeof why); i++)
                usleep(10000);
        cr_expect_not(sync_log_trouble(l.log, NULL, why, sizeof why));
        close_all(&l);
        expect_log(NULL, "RESYNC\n");
}

Test(sync_log, what_cannot_be_written_in_the_end_is_to_be_compared)
{
        struct logged l = open_quiet("sync_log: yes\n");
        char path[200];

        snprintf(path, sizeof path, "%s/conf/sync/log", dir);
        cr_assert_eq(mkdir(path, 0700), 0);
        change_publish(l.store, &(struct change){ .kind = CHANGE_QUOTA, .name = "user.a" });
        close_all(&l);
        cr_assert_eq(rmdir(path), 0);
        l = open_all("sync_log: yes\n", false);
        close_all(&l);
        expect_log(NULL, "RESYNC\n");
}
