/* The csync server's staging area, and its table. */
#include <criterion/criterion.h>

#include "replication/server_private.h"
#include "t/store/scratch.h"

static struct store *store;
static struct err err;

static void setup(void)
{
        char more[200];

        scratch_make();
        snprintf(more, sizeof more, "partition-second: %s/second\n", scratch_dir);
        store = scratch_open(more);
}

static void teardown(void)
{
        store_close(&store);
        scratch_remove();
}

TestSuite(staging, .init = setup, .fini = teardown, .timeout = 60);

static void guid_of(const char *text, uint8_t guid[GUID_SIZE])
{
        struct digest d;

        digest_init(&d);
        digest_update(&d, text, strlen(text));
        digest_final(&d, guid);
}

static int put(struct sync_staging *st, const char *partition, const char *text)
{
        uint8_t guid[GUID_SIZE];

        guid_of(text, guid);
        if (sync_staging_begin(st, span_of(partition), guid, strlen(text), &err) < 0)
                return -1;
        for (size_t i = 0; i < strlen(text); i++)
                if (sync_staging_write(st, text + i, 1, &err) < 0)
                        return -1;
        return sync_staging_end(st, &err);
}

static bool has(struct sync_staging *st, const char *partition, const char *text)
{
        uint8_t guid[GUID_SIZE];

        guid_of(text, guid);
        return sync_staging_has(st, partition, guid);
}

static void expect_octets(struct sync_staging *st, const char *partition, const char *text)
{
        uint8_t guid[GUID_SIZE];
        struct stage *stage;
        char *buf = calloc(1, strlen(text) + 1);

        guid_of(text, guid);
        cr_assert_eq(sync_staging_stage(st, partition, guid, &stage, &err), 0, "%s", err.text);
        cr_expect_eq(stage_size(stage), strlen(text));
        cr_expect_eq(stage_read(stage, 0, buf, strlen(text), &err), 0);
        cr_expect_str_eq(buf, text);
        stage_unref(&stage);
        free(buf);
}

Test(staging, what_is_put_is_there_in_its_partition_until_it_is_cleared)
{
        struct sync_staging *st = sync_staging_create(store, 1000);
        uint8_t guid[GUID_SIZE];
        struct stage *stage;

        cr_assert_eq(put(st, "default", "one"), 0, "%s", err.text);
        cr_assert_eq(put(st, "default", "two"), 0);
        cr_assert_eq(put(st, "second", "three"), 0);
        cr_assert_eq(put(st, "default", ""), 0);
        cr_expect_eq(sync_staging_octets(st), 11);
        expect_octets(st, "default", "two");
        expect_octets(st, "default", "one");
        expect_octets(st, "second", "three");
        expect_octets(st, "default", "");
        cr_expect_not(has(st, "default", "three"));
        guid_of("three", guid);
        cr_expect_eq(sync_staging_stage(st, "default", guid, &stage, &err), -1);
        cr_expect_eq(err.code, ERR_NOTFOUND);
        cr_assert_eq(put(st, "default", "one"), 0);                             /* twice is once */
        cr_expect_eq(sync_staging_octets(st), 11);
        sync_staging_clear(st);
        cr_expect_not(has(st, "default", "one"));
        cr_expect_eq(sync_staging_octets(st), 0);
        cr_assert_eq(put(st, "default", "one"), 0);
        expect_octets(st, "default", "one");
        sync_staging_destroy(&st);
        sync_staging_destroy(&st);
}

Test(staging, a_message_that_is_not_what_it_is_said_to_be_leaves_nothing)
{
        struct sync_staging *st = sync_staging_create(store, 1000);
        uint8_t guid[GUID_SIZE];

        cr_assert_eq(put(st, "default", "before"), 0);
        guid_of("other", guid);
        cr_assert_eq(sync_staging_begin(st, SPAN("default"), guid, 5, &err), 0);
        cr_assert_eq(sync_staging_write(st, "wrong", 5, &err), 0);
        cr_expect_eq(sync_staging_end(st, &err), -1);
        cr_expect_eq(err.code, ERR_SYNTAX);
        cr_assert_eq(sync_staging_begin(st, SPAN("default"), guid, 5, &err), 0);
        cr_assert_eq(sync_staging_write(st, "oth", 3, &err), 0);
        sync_staging_abandon(st);
        cr_expect_not(has(st, "default", "other"));
        cr_expect_eq(sync_staging_octets(st), 6);
        cr_assert_eq(put(st, "default", "behind"), 0);
        expect_octets(st, "default", "before");
        expect_octets(st, "default", "behind");
        sync_staging_destroy(&st);
}

Test(staging, it_holds_no_more_than_it_may_and_knows_its_partitions)
{
        struct sync_staging *st = sync_staging_create(store, 10);

        cr_assert_eq(put(st, "default", "123456"), 0);
        cr_expect_eq(put(st, "default", "78901"), -1);
        cr_expect_eq(err.code, ERR_LIMIT);
        cr_assert_eq(put(st, "second", "7890"), 0);
        cr_expect_eq(put(st, "nowhere", "x"), -1);
        cr_expect_eq(err.code, ERR_NOTFOUND);
        cr_expect_eq(put(st, "../x", ""), -1);
        cr_expect_eq(put(st, "", ""), -1);
        sync_staging_destroy(&st);
}

Test(staging, large_ones_go_by_a_file_that_has_no_name)
{
        struct sync_staging *st = sync_staging_create(store, UINT64_MAX);
        char *text = malloc(300001);

        memset(text, 'x', 300000);
        text[300000] = '\0';
        for (int i = 0; i < 5; i++) {
                text[150000] = (char)('a' + i);
                cr_assert_eq(put(st, "default", text), 0);
        }
        for (int i = 0; i < 5; i++) {
                text[150000] = (char)('a' + i);
                expect_octets(st, "default", text);
        }
        free(text);
        sync_staging_destroy(&st);
}

Test(table, it_is_sorted_and_every_row_says_that_only_admins_may)
{
        for (size_t i = 0; i < sync_cmds_n; i++) {
                const struct sync_cmd *c = &sync_cmds[i];

                cr_expect_eq(c->needs, SYNC_ADMIN, "%s %s", c->verb, c->name);
                cr_expect(c->fn && (c->arg == ARG_KVLIST) == (c->keys != NULL), "%s %s", c->verb, c->name);
                if (i > 0) {
                        int order = strcmp(c[-1].verb, c->verb);

                        cr_expect(order < 0 || (order == 0 && strcmp(c[-1].name, c->name) < 0), "%s %s", c->verb, c->name);
                }
        }
}

Test(names, what_could_leave_its_directory_or_break_a_line_is_no_user_id)
{
        static const char *const bad[] = { "", "a/b", "..", ".a", "a b", "a*", "a%", "a\"b", "a\\b", "a\nb", "\xff", "a\x7f" };
        static const char *const good[] = { "joe", "jo.e", "joe@example.org", "J_o-e+x", "jo\xc3\xa9", "joe^x" };

        for (size_t i = 0; i < ARRAY_LEN(bad); i++)
                cr_expect_not(sync_userid_ok(bad[i]), "%s", bad[i]);
        for (size_t i = 0; i < ARRAY_LEN(good); i++)
                cr_expect(sync_userid_ok(good[i]), "%s", good[i]);
}
