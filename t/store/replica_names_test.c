/* replica - names, users, Sieve scripts, and what is not a mailbox's. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "store/sieve_files.h"
#include "store/user.h"
#include "t/store/replica_gen.h"
#include "util/clock.h"

TestSuite(replica_names, .init = scratch_make, .fini = scratch_remove, .timeout = 120);

static struct err err;
static struct gen_uploads up;

static struct store *open_store(const char *more)
{
        char conf[1000];
        struct store *s;

        snprintf(conf, sizeof conf, "sievedir: %s/sieve\npartition-other: %s/other\n%s", scratch_dir, scratch_dir, more);
        s = scratch_open(conf);
        up = (struct gen_uploads){ .s = s };
        return s;
}

static void close_store(struct store **s)
{
        gen_uploads_end(&up);
        store_close(s);
}

#define OK(call) \
        do { \
                enum replica_code got; \
                err_clear(&err); \
                got = (call); \
                cr_assert_eq(got, REPLICA_OK, "%d: %s", got, err.text); \
        } while (0)
#define IS(call, code) \
        do { \
                enum replica_code got; \
                err_clear(&err); \
                got = (call); \
                cr_expect_eq(got, code, "%d: %s", got, err.text); \
        } while (0)

static void make(struct store *s, const char *name, const char *id)
{
        struct replica_apply a = gen_apply(&up, name, id, NULL, 0);

        OK(replica_apply(s, &a, &err));
}

/* "name:type:id name:type:id", of everything there is. */
static const char *names(struct store *s)
{
        static struct str out = STR_INIT;
        const struct mbentry *found[50];
        unsigned n = mboxlist_next(store_mboxlist(s), "", "", found, 50);

        str_clear(&out);
        for (unsigned i = 0; i < n; i++) {
                str_printf(&out, "%s%s:%d:%s", out.len ? " " : "", found[i]->name, found[i]->type, found[i]->uniqueid);
                mbentry_unref(&found[i]);
        }
        return out.data;
}

static int64_t opened_s;
static int64_t much_later(void) { return opened_s + 61 * 86400ll; }

Test(replica_names, a_delayed_deletion_is_a_rename_and_then_a_deletion_with_tombstone)
{
        struct store *s = open_store("");
        struct arena arena = ARENA_INIT;
        struct replica_values v;
        const char **list;
        size_t n;

        make(s, "user.joe", ID_1);
        make(s, "user.joe.box", ID_2);
        OK(replica_rename(s, "user.joe.box", "DELETED.user.joe.box.6B0242FA", "default", 1795310999, false, &err));
        cr_expect_str_eq(names(s), "DELETED.user.joe.box.6B0242FA:0:" ID_2 " user.joe:0:" ID_1);
        cr_assert_eq(replica_read(s, "DELETED.user.joe.box.6B0242FA", &arena, &v, &err), 0, "%s", err.text);
        cr_expect_eq(v.uidvalidity, 1795310999);
        n = replica_user_mailboxes(s, "joe", true, &arena, &list);
        cr_assert_eq(n, 2);
        cr_expect_str_eq(list[0], "user.joe");
        cr_expect_eq(replica_user_mailboxes(s, "joe", false, &arena, &list), 1);
        cr_expect(replica_tombstone(s, "user.joe.box", &arena, &v, &err));
        cr_expect_str_eq(v.uniqueid, ID_2);
        cr_expect_eq(v.type, MBTYPE_DELETED);
        cr_expect_not(replica_tombstone(s, "user.joe", &arena, &v, &err));
        cr_expect_not(replica_tombstone(s, "user.joe.never", &arena, &v, &err));
        OK(replica_delete(s, "DELETED.user.joe.box.6B0242FA", false, &err));
        IS(replica_delete(s, "DELETED.user.joe.box.6B0242FA", false, &err), REPLICA_NONEXISTENT);
        cr_expect(replica_tombstone(s, "DELETED.user.joe.box.6B0242FA", &arena, &v, &err));
        cr_expect_str_eq(names(s), "user.joe:0:" ID_1);
        close_store(&s);
        s = open_store("");
        cr_expect_str_eq(names(s), "user.joe:0:" ID_1);
        cr_expect(replica_tombstone(s, "user.joe.box", &arena, &v, &err));
        cr_expect(replica_tombstone(s, "DELETED.user.joe.box.6B0242FA", &arena, &v, &err));
        close_store(&s);
        opened_s = clock_wall_s();
        clock_inject_wall(much_later);
        s = open_store("");
        cr_expect_not(replica_tombstone(s, "DELETED.user.joe.box.6B0242FA", &arena, &v, &err));
        cr_expect(replica_tombstone(s, "user.joe.box", &arena, &v, &err));
        clock_inject_wall(NULL);
        make(s, "user.joe.box", ID_2);          /* the same comes back */
        arena_deinit(&arena);
        close_store(&s);
}

Test(replica_names, one_mailbox_is_renamed_and_its_children_stay)
{
        struct store *s = open_store("");
        struct arena arena = ARENA_INIT;
        struct replica_values v;

        make(s, "user.joe", ID_1);
        make(s, "user.joe.a", ID_2);
        make(s, "user.joe.a.b", "aaaaaaaaaaaaaaaaaaaaaaa3");
        OK(replica_rename(s, "user.joe.a", "user.joe.c", "default", 0, false, &err));
        cr_expect_str_eq(names(s), "user.joe:0:" ID_1 " user.joe.a:1: user.joe.a.b:0:aaaaaaaaaaaaaaaaaaaaaaa3 user.joe.c:0:" ID_2);
        IS(replica_rename(s, "user.joe.c", "user.joe.a.b", "default", 0, false, &err), REPLICA_MOVED);
        IS(replica_rename(s, "user.joe.x", "user.joe.y", "default", 0, false, &err), REPLICA_NONEXISTENT);
        IS(replica_rename(s, "user.joe.c", "user.joe..y", "default", 0, false, &err), REPLICA_BAD);
        IS(replica_rename(s, "user.joe.c", "user.joe.y", "nowhere", 0, false, &err), REPLICA_BAD);
        IS(replica_rename(s, "user.joe", "user.jim", "default", 0, false, &err), REPLICA_NOTSUPPORTED);
        OK(replica_rename(s, "user.joe.c", "user.joe.a", "other", 77, false, &err));    /* in place of the intermediate, and elsewhere */
        cr_expect_str_eq(names(s), "user.joe:0:" ID_1 " user.joe.a:0:" ID_2 " user.joe.a.b:0:aaaaaaaaaaaaaaaaaaaaaaa3");
        cr_assert_eq(replica_read(s, "user.joe.a", &arena, &v, &err), 0, "%s", err.text);
        cr_expect_str_eq(v.partition, "other");
        cr_expect_eq(v.uidvalidity, 77);
        OK(replica_rename(s, "user.joe.a", "user.joe.a", "default", 0, false, &err));
        cr_assert_eq(replica_read(s, "user.joe.a", &arena, &v, &err), 0, "%s", err.text);
        cr_expect_str_eq(v.partition, "default");
        cr_expect_eq(v.uidvalidity, 77);
        cr_expect_str_eq(replica_find_uniqueid(s, ID_2, &arena), "user.joe.a");
        arena_deinit(&arena);
        close_store(&s);
        s = open_store("allowusermoves: yes\n");
        OK(replica_rename(s, "user.joe", "user.jim", "default", 0, false, &err));
        close_store(&s);
}

Test(replica_names, intermediates_and_tombstones_are_entries)
{
        struct store *s = open_store("");
        struct arena arena = ARENA_INIT;
        struct replica_values v;
        struct replica_apply a = { .values = { .name = "user.joe.x", .uniqueid = ID_2, .type = MBTYPE_INTERMEDIATE, .highestmodseq = 9,
                .createdmodseq = 8, .foldermodseq = 9, .has = REPLICA_HAS_CREATEDMODSEQ | REPLICA_HAS_FOLDERMODSEQ } };

        make(s, "user.joe", ID_1);
        OK(replica_apply(s, &a, &err));
        OK(replica_apply(s, &a, &err));
        cr_expect_str_eq(names(s), "user.joe:0:" ID_1 " user.joe.x:1:" ID_2);
        cr_assert_eq(replica_read(s, "user.joe.x", &arena, &v, &err), 0, "%s", err.text);
        cr_expect_eq(v.type, MBTYPE_INTERMEDIATE);
        cr_expect_str_eq(v.uniqueid, ID_2);
        cr_expect_eq(v.foldermodseq, 9);
        cr_expect_null(v.partition);
        a.values.name = "user.joe.y";           /* under another name */
        OK(replica_apply(s, &a, &err));
        cr_expect_str_eq(names(s), "user.joe:0:" ID_1 " user.joe.x:1: user.joe.y:1:" ID_2);
        cr_expect(replica_entry(s, "user.joe.x", &arena, &v));
        cr_expect(replica_uniqueid_ok(span_of(v.uniqueid)), "%s", v.uniqueid);
        a.values.name = "user.joe";
        IS(replica_apply(s, &a, &err), REPLICA_MOVED);
        a.values.name = "user.joe.z";
        a.values.uniqueid = ID_1;
        IS(replica_apply(s, &a, &err), REPLICA_MOVED);
        make(s, "user.joe.y", ID_2);            /* it becomes a mailbox */
        OK(replica_delete(s, "user.joe.x", false, &err));
        cr_expect_str_eq(names(s), "user.joe:0:" ID_1 " user.joe.y:0:" ID_2);
        a.values.name = "user.joe.gone";
        a.values.uniqueid = "aaaaaaaaaaaaaaaaaaaaaaa9";
        a.values.type = MBTYPE_DELETED;
        a.values.uidvalidity = 55;
        OK(replica_apply(s, &a, &err));
        cr_expect(replica_tombstone(s, "user.joe.gone", &arena, &v, &err));
        cr_expect_eq(v.uidvalidity, 55);
        cr_expect_str_eq(names(s), "user.joe:0:" ID_1 " user.joe.y:0:" ID_2);
        arena_deinit(&arena);
        close_store(&s);
}

static bool count_tombstone(void *ctx, const struct replica_values *v)
{
        *(unsigned *)ctx += v->type == MBTYPE_DELETED;
        return true;
}

Test(replica_names, a_user_goes_with_all_that_is_his)
{
        struct store *s = open_store("delete_mode: immediate\n");
        int64_t limits[QUOTA_RESOURCES] = { 100, QUOTA_UNLIMITED, 7, QUOTA_UNLIMITED };
        struct seen_state seen = { .uids = UIDSET_INIT, .lastuid = 3 };
        struct arena arena = ARENA_INIT;
        struct sieve_script *scripts;
        struct replica_seen *states;
        const char **list;
        unsigned tombstones = 0;
        uint32_t n;

        OK(replica_delete_user(s, "joe", false, &err));
        make(s, "user.joe", ID_1);
        make(s, "user.joe.box", ID_2);
        make(s, "user.mary", "aaaaaaaaaaaaaaaaaaaaaaa3");
        OK(replica_set_sub(s, "joe", "user.mary", true, &err));
        OK(replica_set_seen(s, "joe", "aaaaaaaaaaaaaaaaaaaaaaa3", &seen, &err));
        OK(replica_set_quota(s, "user.joe", limits, 5, &err));
        cr_assert_eq(sieve_files_write(s, "joe", "main", 1795310371, SPAN("keep;\r\n"), &err), 0, "%s", err.text);
        OK(replica_delete_user(s, "joe", false, &err));
        cr_expect_str_eq(names(s), "user.mary:0:aaaaaaaaaaaaaaaaaaaaaaa3");
        cr_assert_eq(sub_list(s, "joe", &arena, &list, &err), 0);
        cr_expect_null(list[0]);
        cr_assert_eq(replica_list_seen(s, "joe", NULL, &arena, &states, &n, &err), 0);
        cr_expect_eq(n, 0);
        cr_expect_not(quota_get(s, "user.joe", NULL));
        cr_assert_eq(replica_each_tombstone(s, count_tombstone, &tombstones, &err), 0);
        cr_expect_eq(tombstones, 2);
        make(s, "user.joe", ID_2);
        cr_assert_eq(sieve_files_list(s, "joe", &arena, &scripts, &n, &err), 0);
        cr_expect_eq(n, 0);
        arena_deinit(&arena);
        close_store(&s);
}

Test(replica_names, seen_states_are_overwritten)
{
        struct store *s = open_store("");
        struct seen_state state = { .uids = UIDSET_INIT, .lastuid = 6, .lastread = 1795310330, .lastchange = 1795310329 };
        struct arena arena = ARENA_INIT;
        struct replica_seen *list;
        uint32_t n;

        uidset_add_range(&state.uids, 1, 2);
        OK(replica_set_seen(s, "joe", ID_2, &state, &err));
        OK(replica_set_seen(s, "joe", ID_1, &state, &err));
        uidset_clear(&state.uids);
        uidset_add_range(&state.uids, 5, 9);
        OK(replica_set_seen(s, "joe", ID_1, &state, &err));
        IS(replica_set_seen(s, "joe", "x/y", &state, &err), REPLICA_BAD);
        IS(replica_set_seen(s, "", ID_1, &state, &err), REPLICA_BAD);
        cr_assert_eq(replica_list_seen(s, "joe", NULL, &arena, &list, &n, &err), 0, "%s", err.text);
        cr_assert_eq(n, 2);
        cr_expect_str_eq(list[0].uniqueid, ID_1);
        cr_expect_str_eq(list[0].uids, "5:9");
        cr_expect_str_eq(list[1].uids, "1:2");
        cr_expect_eq(list[1].lastuid, 6);
        cr_expect_eq(list[1].lastread, 1795310330);
        cr_expect_eq(list[1].lastchange, 1795310329);
        cr_assert_eq(replica_list_seen(s, "joe", ID_2, &arena, &list, &n, &err), 0);
        cr_expect_eq(n, 1);
        uidset_deinit(&state.uids);
        arena_deinit(&arena);
        close_store(&s);
}

Test(replica_names, quota_roots_have_exactly_what_is_given)
{
        struct store *s = open_store("");
        int64_t limits[QUOTA_RESOURCES] = { 5000, 100, QUOTA_UNLIMITED, QUOTA_UNLIMITED };
        struct quota_info info;

        OK(replica_set_quota(s, "user.joe", limits, 4, &err));
        cr_assert(quota_get(s, "user.joe", &info));
        cr_expect_eq(info.limit[QUOTA_STORAGE], 5000);
        cr_expect_eq(info.limit[QUOTA_MESSAGE], 100);
        cr_expect_eq(info.modseq, 4);
        limits[QUOTA_STORAGE] = limits[QUOTA_MESSAGE] = QUOTA_UNLIMITED;
        OK(replica_set_quota(s, "user.joe", limits, 3, &err));
        cr_assert(quota_get(s, "user.joe", &info));
        cr_expect_eq(info.limit[QUOTA_STORAGE], QUOTA_UNLIMITED);
        cr_expect_eq(info.modseq, 3);
        limits[0] = INT64_MAX;
        IS(replica_set_quota(s, "user.joe", limits, 3, &err), REPLICA_BAD);
        IS(replica_set_quota(s, "user..joe", limits, 3, &err), REPLICA_BAD);
        limits[0] = 0;                          /* nothing fits, and replication does not ask */
        limits[QUOTA_MAILBOX] = 0;
        OK(replica_set_quota(s, "user.joe", limits, 3, &err));
        make(s, "user.joe", ID_1);
        make(s, "user.joe.box", ID_2);
        OK(replica_remove_quota(s, "user.joe", &err));
        OK(replica_remove_quota(s, "user.joe", &err));
        cr_expect_not(quota_get(s, "user.joe", NULL));
        close_store(&s);
}

Test(replica_names, annotations_one_by_one)
{
        struct store *s = open_store("");
        struct arena arena = ARENA_INIT;
        struct annot *list;
        uint32_t n;

        make(s, "user.joe", ID_1);
        OK(replica_set_annot(s, "", "/comment", "", SPAN("server note"), &err));
        OK(replica_set_annot(s, "", "/comment", "mary", SPAN("hers"), &err));
        OK(replica_set_annot(s, "user.joe", "/comment", "mary", SPAN("box"), &err));
        OK(replica_set_annot(s, "user.joe", "/specialuse", "joe", SPAN("\\Sent"), &err));
        IS(replica_set_annot(s, "user.jim", "/comment", "", SPAN("x"), &err), REPLICA_NONEXISTENT);
        IS(replica_set_annot(s, "", "comment", "", SPAN("x"), &err), REPLICA_BAD);
        cr_assert_eq(replica_list_annots(s, "", &arena, &list, &n, &err), 0, "%s", err.text);
        cr_assert_eq(n, 2);
        cr_expect_str_eq(list[0].user, "");
        cr_expect_str_eq(list[1].user, "mary");
        cr_assert_eq(replica_list_annots(s, "user.joe", &arena, &list, &n, &err), 0, "%s", err.text);
        cr_assert_eq(n, 2);
        cr_expect_str_eq(list[0].entry, "/comment");
        cr_expect_str_eq(list[1].entry, "/specialuse");
        cr_expect(span_eq_str(list[1].value, "\\Sent"));
        OK(replica_set_annot(s, "", "/comment", "mary", (struct span){ NULL, 0 }, &err));
        OK(replica_set_annot(s, "user.joe", "/comment", "mary", (struct span){ NULL, 0 }, &err));
        cr_assert_eq(replica_list_annots(s, "user.joe", &arena, &list, &n, &err), 0);
        cr_expect_eq(n, 1);
        cr_assert_eq(replica_list_annots(s, "", &arena, &list, &n, &err), 0);
        cr_expect_eq(n, 1);
        arena_deinit(&arena);
        close_store(&s);
}

/* ---- Sieve ---- */

static const char *scripts(struct store *s, const char *user)
{
        static struct str out = STR_INIT;
        struct arena arena = ARENA_INIT;
        struct sieve_script *list;
        uint32_t n;

        str_clear(&out);
        if (sieve_files_list(s, user, &arena, &list, &n, &err) < 0)
                str_printf(&out, "error %s", err.text);
        for (uint32_t i = 0; i < n; i++) {
                str_printf(&out, "%s%s%s %lld ", out.len ? "; " : "", list[i].name, list[i].active ? "*" : "", (long long)list[i].last_update);
                gen_guid(&out, list[i].guid);
        }
        arena_deinit(&arena);
        return out.data;
}

#define YES(call) do { err_clear(&err); cr_assert_eq(call, 0, "%s", err.text); } while (0)
#define NO(call, what) do { err_clear(&err); cr_expect_eq(call, -1); cr_expect_eq(err.code, what, "%s", err.text); } while (0)

Test(replica_names, sieve_scripts_are_files)
{
        struct store *s = open_store("");
        struct arena arena = ARENA_INIT;
        struct span text;
        char path[300], target[100];
        ssize_t n;

        NO(sieve_files_write(s, "joe", "main", 1795310371, SPAN("keep;"), &err), ERR_NOTFOUND);
        make(s, "user.joe", ID_1);
        cr_expect_str_eq(scripts(s, "joe"), "");
        YES(sieve_files_activate(s, "joe", NULL, &err));
        YES(sieve_files_write(s, "joe", "main", 1795310371, SPAN("keep;\r\n"), &err));
        YES(sieve_files_write(s, "joe", "two", 1795311119, SPAN("discard;\r\n"), &err));
        YES(sieve_files_activate(s, "joe", "main", &err));
        cr_expect_str_eq(scripts(s, "joe"), "main* 1795310371 b2dd3f55; two 1795311119 47e70239");
        YES(sieve_files_write(s, "joe", "main", 5, SPAN("discard;\r\n"), &err));
        cr_expect_str_eq(scripts(s, "joe"), "main* 5 47e70239; two 1795311119 47e70239");
        YES(sieve_files_read(s, "joe", "main", &arena, &text, &err));
        cr_expect(span_eq_str(text, "discard;\r\n"));
        snprintf(path, sizeof path, "%s/sieve/uuid/a/a/" ID_1 "/defaultbc", scratch_dir);
        n = readlink(path, target, sizeof target - 1);
        cr_assert_eq(n, 7);
        cr_expect_eq(memcmp(target, "main.bc", 7), 0);
        YES(sieve_files_activate(s, "joe", "two", &err));
        YES(sieve_files_remove(s, "joe", "two", &err));
        cr_expect_str_eq(scripts(s, "joe"), "main 5 47e70239");
        cr_expect_eq(readlink(path, target, sizeof target), -1);
        NO(sieve_files_activate(s, "joe", "two", &err), ERR_NOTFOUND);
        NO(sieve_files_remove(s, "joe", "two", &err), ERR_NOTFOUND);
        NO(sieve_files_read(s, "joe", "two", &arena, &text, &err), ERR_NOTFOUND);
        YES(sieve_files_activate(s, "joe", "main", &err));
        YES(sieve_files_activate(s, "joe", NULL, &err));
        cr_expect_str_eq(scripts(s, "joe"), "main 5 47e70239");
        YES(sieve_files_write(s, "joe", "empty", INT64_MIN, SPAN(""), &err));
        YES(sieve_files_read(s, "joe", "empty", &arena, &text, &err));
        cr_expect_eq(text.len, 0);
        arena_deinit(&arena);
        close_store(&s);
}

Test(replica_names, names_of_scripts_lead_nowhere_else)
{
        static const char *const bad[] = { "", ".", "..", "../x", "a/b", "/etc/passwd", ".hidden", "a\nb", "a\x7f" "b", "\xff", "a\xc0\xaf" "b",
                "a\xe2\x80\xa8" "b", "a\xc2\x85" "b", "\xed\xa0\x80", "a\x01" };
        struct store *s = open_store("");
        struct arena arena = ARENA_INIT;
        const char *name;
        struct span text;
        char path[300], long_name[300];

        make(s, "user.joe", ID_1);
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
                cr_expect_not(sieve_name_ok(span_of(bad[i])), "%zu", i);
                NO(sieve_files_write(s, "joe", bad[i], 1, SPAN("keep;"), &err), ERR_BADNAME);
                NO(sieve_files_read(s, "joe", bad[i], &arena, &text, &err), ERR_NOTFOUND);
                NO(sieve_files_remove(s, "joe", bad[i], &err), ERR_NOTFOUND);
                NO(sieve_files_activate(s, "joe", bad[i], &err), ERR_NOTFOUND);
        }
        cr_expect_not(sieve_name_ok((struct span){ "a\0b", 3 }));
        memset(long_name, 'x', sizeof long_name);
        cr_expect(sieve_name_ok((struct span){ long_name, SIEVE_NAME_MAX }));
        cr_expect_not(sieve_name_ok((struct span){ long_name, SIEVE_NAME_MAX + 1 }));
        long_name[SIEVE_NAME_MAX] = '\0';
        YES(sieve_files_write(s, "joe", long_name, 1, SPAN("keep;"), &err));
        YES(sieve_files_activate(s, "joe", long_name, &err));
        YES(sieve_files_write(s, "joe", "gr\xc3\xbc\xc3\x9f" "e", 1, SPAN("keep;"), &err));
        cr_expect_eq(sieve_file_name(SPAN("main.script"), &arena, &name), SIEVE_FILE_SCRIPT);
        cr_expect_str_eq(name, "main");
        cr_expect_eq(sieve_file_name(SPAN("main.bc"), &arena, &name), SIEVE_FILE_BYTECODE);
        cr_expect_eq(sieve_file_name(SPAN(".script"), &arena, &name), SIEVE_FILE_OTHER);
        cr_expect_eq(sieve_file_name(SPAN("../x.script"), &arena, &name), SIEVE_FILE_OTHER);
        cr_expect_eq(sieve_file_name(SPAN("defaultbc"), &arena, &name), SIEVE_FILE_OTHER);
        /* Links and pipes in the directory are no scripts, and nobody waits at them. */
        snprintf(path, sizeof path, "%s/sieve/uuid/a/a/" ID_1 "/evil.script", scratch_dir);
        cr_assert_eq(symlink("/etc/passwd", path), 0);
        snprintf(path, sizeof path, "%s/sieve/uuid/a/a/" ID_1 "/pipe.script", scratch_dir);
        cr_assert_eq(mkfifo(path, 0600), 0);
        cr_expect_eq(sieve_files_read(s, "joe", "evil", &arena, &text, &err), -1);
        NO(sieve_files_read(s, "joe", "pipe", &arena, &text, &err), ERR_NOTFOUND);
        NO(sieve_files_activate(s, "joe", "evil", &err), ERR_NOTFOUND);
        cr_expect_null(strstr(scripts(s, "joe"), "evil"));
        cr_expect_null(strstr(scripts(s, "joe"), "pipe"));
        cr_expect_null(strstr(scripts(s, "joe"), "error"));
        YES(sieve_files_write(s, "joe", "evil", 1, SPAN("keep;"), &err));       /* takes the link's place */
        cr_expect_not_null(strstr(scripts(s, "joe"), "evil"));
        arena_deinit(&arena);
        close_store(&s);
}

/* Each call that can fail does so once: what there is, is the former script or the new one. */
static int fail_at, calls;
static int fault(const char *call)
{
        (void)call;
        return ++calls == fail_at ? EIO : 0;
}

Test(replica_names, a_script_is_replaced_whole_or_not_at_all)
{
        struct store *s = open_store("");
        struct arena arena = ARENA_INIT;
        struct span text;
        bool failed = true;

        make(s, "user.joe", ID_1);
        YES(sieve_files_write(s, "joe", "main", 1, SPAN("keep;"), &err));
        for (int at = 1; failed && at < 50; at++) {
                int rc;

                calls = 0;
                fail_at = at;
                fs_fault = fault;
                rc = sieve_files_write(s, "joe", "main", 2, SPAN("discard;"), &err);
                fs_fault = NULL;
                failed = calls >= at;
                cr_expect_eq(rc, failed ? -1 : 0, "call %d", at);
                YES(sieve_files_read(s, "joe", "main", &arena, &text, &err));
                cr_expect(span_eq_str(text, "keep;") || span_eq_str(text, "discard;"), "call %d: %.*s", at, (int)text.len, text.p);
                cr_expect(failed || span_eq_str(text, "discard;"));
                if (!failed)
                        cr_expect_gt(at, 3);
        }
        cr_expect_not(failed);
        arena_deinit(&arena);
        close_store(&s);
}
