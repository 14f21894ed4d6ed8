/* The mailbox list: create, delete, rename, ACLs, iteration, what is remembered, and a model that knows nothing of shards. */
#include <criterion/criterion.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "store/acl.h"
#include "store/mailname.h"
#include "store/user.h"
#include "t/store/scratch.h"
#include "util/array.h"
#include "util/clock.h"

TestSuite(mboxlist, .init = scratch_make, .fini = scratch_remove, .timeout = 120);

#define IMMEDIATE "delete_mode: immediate\n"

static struct err err;

static int create(struct store *s, const char *name)
{
        return mboxlist_create(store_mboxlist(s), &(struct mbox_create){ .name = name }, NULL, &err);
}

static void must_create(struct store *s, const char *name)
{
        cr_assert_eq(create(s, name), 0, "%s: %s", name, err.text);
}

/* "name:type name:type …" of everything at or below prefix, read in slices of `slice`. */
static const char *listing_by(struct store *s, const char *prefix, unsigned slice)
{
        static struct str out = STR_INIT;
        const struct mbentry *found[64];
        char after[600] = "";
        unsigned n;

        str_clear(&out);
        while ((n = mboxlist_next(store_mboxlist(s), prefix, after, found, slice)) > 0)
                for (unsigned i = 0; i < n; i++) {
                        str_printf(&out, "%s%s%s", out.len ? " " : "", found[i]->name, found[i]->type == MBTYPE_INTERMEDIATE ? "/" : "");
                        snprintf(after, sizeof after, "%s", found[i]->name);
                        mbentry_unref(&found[i]);
                }
        return out.data;
}

static const char *listing(struct store *s, const char *prefix)
{
        return listing_by(s, prefix, 64);
}

static const struct mbentry *find(struct store *s, const char *name)
{
        const struct mbentry *e = mboxlist_find(store_mboxlist(s), name);

        cr_assert_not_null(e, "%s", name);
        return e;
}

static void reopen(struct store **s, const char *more)
{
        store_close(s);
        *s = scratch_open(more);
}

Test(mboxlist, what_is_created_is_found_also_after_a_restart)
{
        struct store *s = scratch_open(NULL);
        const struct mbentry *e;
        char id[40];

        must_create(s, "user.joe");
        must_create(s, "user.joe.Sent");
        cr_expect_eq(create(s, "user.joe"), -1);
        cr_expect_eq(err.code, ERR_EXISTS);
        e = find(s, "user.joe.Sent");
        cr_expect_eq(strlen(e->uniqueid), 24);
        cr_expect_eq(strspn(e->uniqueid, "abcdefghijklmnopqrstuvwxyz0123456789"), 24);
        cr_expect_str_eq(e->acl, "joe\tlrswipkxtecdan\t");
        cr_expect_str_eq(e->partition, "default");
        cr_expect_geq(e->uidvalidity, (uint32_t)clock_wall_s() - 10);
        strcpy(id, e->uniqueid);
        mbentry_unref(&e);
        reopen(&s, NULL);
        e = mboxlist_find_uniqueid(store_mboxlist(s), id);
        cr_assert_not_null(e);
        cr_expect_str_eq(e->name, "user.joe.Sent");
        cr_expect_str_eq(e->acl, "joe\tlrswipkxtecdan\t");
        mbentry_unref(&e);
        cr_expect_eq(mboxlist_count(store_mboxlist(s)), 2);
        store_close(&s);
}

Test(mboxlist, what_is_above_is_made_too)
{
        struct store *s = scratch_open(NULL);
        struct mboxlist *ml = store_mboxlist(s);
        const struct mbentry *e;
        uint32_t before;

        must_create(s, "user.joe");
        cr_assert_eq(mboxlist_create(ml, &(struct mbox_create){ .name = "user.joe.a.b.c", .with_parents = true }, NULL, &err), 0, "%s", err.text);
        cr_expect_str_eq(listing(s, ""), "user.joe user.joe.a user.joe.a.b user.joe.a.b.c");
        e = find(s, "user.joe.a.b");
        cr_expect_str_eq(e->acl, "joe\tlrswipkxtecdan\t");
        before = e->uidvalidity;
        mbentry_unref(&e);
        must_create(s, "x.y");                          /* an intermediate becomes a mailbox, with a later uidvalidity than it had */
        cr_assert_eq(mboxlist_create(ml, &(struct mbox_create){ .name = "x.z", .with_parents = true }, NULL, &err), 0);
        cr_expect_str_eq(listing(s, "x"), "x x.y x.z");
        cr_assert_eq(mboxlist_delete_tree(ml, "user.joe.a", true, &err), 0);
        must_create(s, "user.joe.q");
        cr_assert_eq(mboxlist_rename_tree(ml, "user.joe.q", "user.joe.a.b.q", NULL, &err), 0, "%s", err.text);
        reopen(&s, NULL);
        cr_expect_str_eq(listing(s, "user"), "user.joe user.joe.a user.joe.a.b user.joe.a.b.q");
        e = find(s, "user.joe.a.b");
        cr_expect_gt(e->uidvalidity, before);
        mbentry_unref(&e);
        cr_assert_eq(mboxlist_create(store_mboxlist(s), &(struct mbox_create){ .name = "user.bob.a.b", .with_parents = true }, NULL, &err), 0);
        cr_expect_str_eq(listing(s, "user.bob"), "user.bob/ user.bob.a user.bob.a.b", "an INBOX is nobody's by-product");
        store_close(&s);
}

Test(mboxlist, acls_are_inherited)
{
        struct store *s = scratch_open("defaultacl: anyone lrs group:staff lrsip\n");
        const struct mbentry *e;

        must_create(s, "news");
        must_create(s, "user.joe");
        cr_assert_eq(mboxlist_set_acl(store_mboxlist(s), "news", "bob", ACL_SET, ACL_READ, &err), 0);
        must_create(s, "news.a.b");
        e = find(s, "news.a.b");
        cr_expect_str_eq(e->acl, "anyone\tlrs\tgroup:staff\tlrsip\tbob\tr\t", "past the intermediate");
        mbentry_unref(&e);
        e = find(s, "news.a");
        cr_expect_str_eq(e->acl, "");
        mbentry_unref(&e);
        cr_assert_eq(mboxlist_create(store_mboxlist(s), &(struct mbox_create){ .name = "news.c", .acl = "x\tl\t" }, &e, &err), 0);
        cr_expect_str_eq(e->acl, "x\tl\t");
        mbentry_unref(&e);
        cr_expect_eq(mboxlist_set_acl(store_mboxlist(s), "news.a", "bob", ACL_SET, ACL_READ, &err), -1);
        cr_expect_eq(err.code, ERR_NOTFOUND, "an intermediate has no ACL");
        cr_expect_eq(mboxlist_set_acl(store_mboxlist(s), "news", "b\tb", ACL_SET, ACL_READ, &err), -1);
        store_close(&s);
}

Test(mboxlist, intermediates_come_and_go_with_what_is_below)
{
        struct store *s = scratch_open(IMMEDIATE);
        struct mboxlist *ml = store_mboxlist(s);

        must_create(s, "user.joe");
        must_create(s, "user.joe.a.b.c");
        cr_expect_str_eq(listing(s, "user.joe"), "user.joe user.joe.a/ user.joe.a.b/ user.joe.a.b.c");
        must_create(s, "user.joe.a.b");
        cr_expect_str_eq(listing(s, "user.joe.a"), "user.joe.a/ user.joe.a.b user.joe.a.b.c");
        cr_expect_eq(mboxlist_delete(ml, "user.joe.a", true, &err), -1);
        cr_expect_eq(err.code, ERR_NOTFOUND);
        cr_expect_eq(mboxlist_delete(ml, "user.joe.a.b", true, &err), 0);
        cr_expect_str_eq(listing(s, "user.joe.a"), "user.joe.a/ user.joe.a.b/ user.joe.a.b.c");
        cr_expect(mboxlist_has_children(ml, "user.joe.a.b"));
        cr_expect(mboxlist_has_children(ml, "user"));
        cr_expect_not(mboxlist_has_children(ml, "user.joe.a.b.c"));
        cr_expect_eq(mboxlist_delete(ml, "user.joe.a.b.c", true, &err), 0);
        cr_expect_str_eq(listing(s, ""), "user.joe");
        reopen(&s, IMMEDIATE);
        cr_expect_str_eq(listing(s, ""), "user.joe");
        store_close(&s);
}

static int64_t fixed_now(void)
{
        return 1800000000;
}

Test(mboxlist, uidvalidity_never_comes_back)
{
        struct store *s = scratch_open(IMMEDIATE);
        uint32_t last = 0;

        clock_inject_wall(fixed_now);
        for (int i = 0; i < 6; i++) {
                const struct mbentry *e;

                must_create(s, "user.joe");
                e = find(s, "user.joe");
                cr_expect_gt(e->uidvalidity, last);
                cr_expect_geq(e->uidvalidity, 1800000000);
                last = e->uidvalidity;
                mbentry_unref(&e);
                cr_expect_eq(mboxlist_delete(store_mboxlist(s), "user.joe", true, &err), 0);
                if (i % 2)
                        reopen(&s, IMMEDIATE);
        }
        /* Two names in one second, renamed over each other. */
        {
                const struct mbentry *a, *b;

                must_create(s, "user.a");
                must_create(s, "user.b");
                a = find(s, "user.a");
                b = find(s, "user.b");
                cr_expect_neq(a->uidvalidity, b->uidvalidity);
                mbentry_unref(&a);
                mbentry_unref(&b);
        }
        clock_inject_wall(NULL);
        store_close(&s);
}

Test(mboxlist, a_given_uidvalidity_binds_its_own_name)
{
        struct store *s = scratch_open(IMMEDIATE);
        struct mboxlist *ml = store_mboxlist(s);
        const struct mbentry *e;
        struct mbox_create what = { .name = "user.joe", .uniqueid = "0123456789abcdef", .uidvalidity = 4000000000 };

        cr_assert_eq(mboxlist_create(ml, &what, &e, &err), 0, "%s", err.text);
        cr_expect_eq(e->uidvalidity, 4000000000);
        mbentry_unref(&e);
        what.name = "user.bob";
        cr_expect_eq(mboxlist_create(ml, &what, &e, &err), -1);
        cr_expect_eq(err.code, ERR_EXISTS, "a unique id twice");
        what.uniqueid = "../../etc";
        cr_expect_eq(mboxlist_create(ml, &what, &e, &err), -1);
        cr_expect_eq(err.code, ERR_BADNAME);
        must_create(s, "user.ann");
        e = find(s, "user.ann");
        cr_expect_lt(e->uidvalidity, 4000000000);
        mbentry_unref(&e);
        cr_assert_eq(mboxlist_delete(ml, "user.joe", true, &err), 0);
        must_create(s, "user.joe");
        e = find(s, "user.joe");
        cr_expect_eq(e->uidvalidity, 4000000001);
        mbentry_unref(&e);
        store_close(&s);
}

Test(mboxlist, a_delayed_delete_keeps_the_mailbox_under_another_name)
{
        struct store *s = scratch_open(NULL);
        struct mboxlist *ml = store_mboxlist(s);
        const struct mbentry *e = NULL, *was;
        unsigned n;

        clock_inject_wall(fixed_now);
        must_create(s, "user.joe");
        must_create(s, "user.joe.x");
        was = find(s, "user.joe.x");
        cr_expect_eq(mboxlist_delete(ml, "user.joe.x", false, &err), 0, "%s", err.text);
        cr_expect_str_eq(listing(s, ""), "DELETED.user.joe.x.6B49D200 user.joe");
        n = mboxlist_next(ml, "DELETED", "", &e, 1);
        cr_assert_eq(n, 1);
        cr_expect_str_eq(e->uniqueid, was->uniqueid);
        cr_expect_eq(e->uidvalidity, was->uidvalidity);
        mbentry_unref(&e);
        mbentry_unref(&was);
        must_create(s, "user.joe.x");
        cr_expect_eq(mboxlist_delete(ml, "user.joe.x", false, &err), 0);
        cr_expect_str_eq(listing(s, "DELETED"), "DELETED.user.joe.x.6B49D200 DELETED.user.joe.x.6B49D201");
        cr_expect_eq(mboxlist_delete(ml, "DELETED.user.joe.x.6B49D200", false, &err), 0, "the second time it is for good");
        cr_expect_str_eq(listing(s, "DELETED"), "DELETED.user.joe.x.6B49D201");
        cr_expect_eq(mboxlist_rename(ml, "DELETED.user.joe.x.6B49D201", "user.joe.back", false, NULL, &err), 0, "%s", err.text);
        cr_expect_str_eq(listing(s, ""), "user.joe user.joe.back");
        cr_expect_eq(create(s, "DELETED.x"), -1);
        cr_expect_eq(err.code, ERR_BADNAME);
        cr_expect_eq(mboxlist_delete_tree(ml, "user.joe", false, &err), 0);
        cr_expect_str_eq(listing(s, ""), "DELETED.user.joe.6B49D200 DELETED.user.joe.back.6B49D200");
        reopen(&s, NULL);
        cr_expect_str_eq(listing(s, ""), "DELETED.user.joe.6B49D200 DELETED.user.joe.back.6B49D200");
        clock_inject_wall(NULL);
        store_close(&s);
}

Test(mboxlist, files_of_a_deleted_mailbox_go)
{
        struct store *s = scratch_open(IMMEDIATE);
        const struct mbentry *e;
        char path[300];

        must_create(s, "user.joe");
        e = find(s, "user.joe");
        snprintf(path, sizeof path, "%s/mail/%c/%c/%s", scratch_dir, e->uniqueid[0], e->uniqueid[1], e->uniqueid);
        cr_expect(fs_exists(path), "%s", path);
        cr_expect_eq(mboxlist_delete(store_mboxlist(s), "user.joe", false, &err), 0);
        cr_expect_not(fs_exists(path));
        mbentry_unref(&e);
        store_close(&s);
}

Test(mboxlist, renames)
{
        static const struct { const char *from, *to; bool children; const char *result; enum err_code code; } rows[] = {
                { "user.joe.a", "user.joe.z", true, "user.joe user.joe.b user.joe.z user.joe.z.x user.joe.z.x.y", 0 },
                { "user.joe.a", "user.joe.z", false, "user.joe user.joe.a/ user.joe.a.x user.joe.a.x.y user.joe.b user.joe.z", 0 },
                { "user.joe.a", "user.joe.b", true, NULL, ERR_EXISTS },
                { "user.joe.a", "user.joe.a", true, NULL, ERR_EXISTS },
                { "user.joe.a", "user.joe.a.b", true, NULL, ERR_BADNAME },
                { "user.joe.q", "user.joe.z", true, NULL, ERR_NOTFOUND },
                { "user.joe.a", "user.joe.p.q.r", true,
                  "user.joe user.joe.b user.joe.p/ user.joe.p.q/ user.joe.p.q.r user.joe.p.q.r.x user.joe.p.q.r.x.y", 0 },
                { "user.joe.a", "user.joe.b.c", true, "user.joe user.joe.b user.joe.b.c user.joe.b.c.x user.joe.b.c.x.y", 0 },
                { "user.joe.a", "shared", true, "shared shared.x shared.x.y user.joe user.joe.b", 0 },
                { "user.joe", "user.jim", true, "user.jim user.jim.a user.jim.a.x user.jim.a.x.y user.jim.b", 0 },
                { "user.joe", "user.jim", false, "user.jim user.joe/ user.joe.a user.joe.a.x user.joe.a.x.y user.joe.b", 0 },
                { "user.joe.a", "user", true, NULL, ERR_BADNAME },
                { "user.joe.a", "DELETED.x", true, NULL, ERR_BADNAME },
                { "user.joe.a.x.y", "user.joe.a.y", true, "user.joe user.joe.a user.joe.a.x user.joe.a.y user.joe.b", 0 },
        };

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                struct store *s;
                int rc;

                fs_remove_tree(scratch_dir, NULL);
                s = scratch_open(NULL);
                must_create(s, "user.joe");
                must_create(s, "user.joe.a");
                must_create(s, "user.joe.a.x");
                must_create(s, "user.joe.a.x.y");
                must_create(s, "user.joe.b");
                rc = mboxlist_rename(store_mboxlist(s), rows[i].from, rows[i].to, rows[i].children, NULL, &err);
                cr_expect_eq(rc, rows[i].result ? 0 : -1, "%s → %s: %s", rows[i].from, rows[i].to, err.text);
                if (!rows[i].result)
                        cr_expect_eq(err.code, rows[i].code, "%s → %s: %s", rows[i].from, rows[i].to, err.text);
                for (int again = 0; again < 2; again++) {
                        cr_expect_str_eq(listing(s, ""),
                                         rows[i].result ? rows[i].result : "user.joe user.joe.a user.joe.a.x user.joe.a.x.y user.joe.b");
                        reopen(&s, NULL);
                }
                store_close(&s);
        }
}

Test(mboxlist, renames_among_intermediates)
{
        struct store *s = scratch_open(NULL);
        struct mboxlist *ml = store_mboxlist(s);

        must_create(s, "a.b.c");
        cr_expect_str_eq(listing(s, ""), "a/ a.b/ a.b.c");
        cr_expect_eq(mboxlist_rename(ml, "a.b", "a.d", true, NULL, &err), 0, "%s", err.text);
        cr_expect_str_eq(listing(s, ""), "a/ a.d/ a.d.c");
        cr_expect_eq(mboxlist_rename(ml, "a.d.c", "a", true, NULL, &err), 0, "%s", err.text);
        cr_expect_str_eq(listing(s, ""), "a");
        cr_expect_eq(mboxlist_rename(ml, "a", "b", true, NULL, &err), 0, "%s", err.text);
        store_close(&s);
}

Test(mboxlist, ids_and_uidvalidity_stay_over_a_rename)
{
        struct store *s = scratch_open(NULL);
        const struct mbentry *before, *after;

        must_create(s, "user.joe");
        must_create(s, "user.joe.a");
        before = find(s, "user.joe.a");
        cr_assert_eq(mboxlist_rename(store_mboxlist(s), "user.joe.a", "user.joe.z", true, NULL, &err), 0);
        after = mboxlist_find_uniqueid(store_mboxlist(s), before->uniqueid);
        cr_assert_not_null(after);
        cr_expect_str_eq(after->name, "user.joe.z");
        cr_expect_eq(after->uidvalidity, before->uidvalidity);
        cr_expect_eq(after->createdmodseq, before->createdmodseq);
        cr_expect_gt(after->foldermodseq, before->foldermodseq);
        mbentry_unref(&before);
        mbentry_unref(&after);
        store_close(&s);
}

Test(mboxlist, a_renamed_user_takes_acls_and_subscriptions_along)
{
        struct store *s = scratch_open(NULL);
        struct mboxlist *ml = store_mboxlist(s);
        const struct mbentry *e;
        struct arena arena = ARENA_INIT;
        const char **subs;
        bool yes;

        must_create(s, "user.joe");
        must_create(s, "user.joe.a");
        cr_assert_eq(mboxlist_set_acl(ml, "user.joe.a", "bob", ACL_SET, ACL_LOOKUP, &err), 0);
        cr_assert_eq(mboxlist_set_acl(ml, "user.joe.a", "-joe", ACL_SET, ACL_POST, &err), 0);
        cr_assert_eq(sub_set(s, "joe", "user.joe.a", true, &err), 0);
        cr_assert_eq(sub_set(s, "joe", "news", true, &err), 0);
        cr_assert_eq(mboxlist_rename(ml, "user.joe", "user.ji^m", true, NULL, &err), 0, "%s", err.text);
        e = find(s, "user.ji^m.a");
        cr_expect_str_eq(e->acl, "ji.m\tlrswipkxtecdan\tbob\tl\t-ji.m\tp\t");
        mbentry_unref(&e);
        cr_assert_eq(sub_list(s, "ji.m", &arena, &subs, &err), 0);
        cr_expect_str_eq(subs[0], "news");
        cr_expect_str_eq(subs[1], "user.ji^m.a");
        cr_expect_null(subs[2]);
        cr_assert_eq(sub_has(s, "joe", "news", &yes, &err), 0);
        cr_expect_not(yes);
        arena_deinit(&arena);
        store_close(&s);
}

Test(mboxlist, a_tree_of_1_500_is_renamed_at_once)
{
        struct store *s = scratch_open(NULL);
        struct mboxlist *ml = store_mboxlist(s);
        char name[64];
        uint64_t started;
        unsigned n = 1500;

        must_create(s, "user.joe");
        for (unsigned i = 0; i < n; i++) {
                snprintf(name, sizeof name, "user.joe.f%u", i);
                must_create(s, name);
        }
        started = clock_mono_ms();
        cr_assert_eq(mboxlist_rename(ml, "user.joe", "user.jim", true, NULL, &err), 0, "%s", err.text);
        fprintf(stderr, "renamed %llu in %llu ms\n", (unsigned long long)mboxlist_count(ml),
                (unsigned long long)(clock_mono_ms() - started));
        cr_expect_eq(mboxlist_count(ml), 1 + n);
        cr_expect_not(mboxlist_has_children(ml, "user.joe"));
        reopen(&s, NULL);
        cr_expect_eq(mboxlist_count(store_mboxlist(s)), 1 + n);
        cr_expect_str_eq(listing_by(s, "user.joe", 3), "");
        store_close(&s);
}

/* ---- a model ---- */

#define MODEL_MAX 400
struct model { char names[MODEL_MAX][32]; unsigned n; };

static int model_find(struct model *m, const char *name)
{
        for (unsigned i = 0; i < m->n; i++)
                if (strcmp(m->names[i], name) == 0)
                        return (int)i;
        return -1;
}

static int by_name(const void *a, const void *b)
{
        return mailname_compare(a, b);
}

static unsigned model_seed;

static void random_name(char out[32])
{
        static const char *const tops[] = { "user.a", "user.b", "s", "s.t", "d!user.a" };

        strcpy(out, tops[rand_r(&model_seed) % 5]);
        for (int depth = rand_r(&model_seed) % 3; depth > 0; depth--) {
                size_t len = strlen(out);

                out[len] = '.';
                out[len + 1] = (char)('a' + rand_r(&model_seed) % 4);
                out[len + 2] = '\0';
        }
}

/* The real mailboxes among what the list shows are the model's names, every intermediate has something below. */
static void compare(struct store *s, struct model *m)
{
        char expected[MODEL_MAX * 33] = "", shown[MODEL_MAX * 33] = "";
        const struct mbentry *found[7];
        char after[64] = "";
        unsigned n;

        qsort(m->names, m->n, sizeof m->names[0], by_name);
        for (unsigned i = 0; i < m->n; i++)
                strcat(strcat(expected, m->names[i]), " ");
        while ((n = mboxlist_next(store_mboxlist(s), "", after, found, 7)) > 0)
                for (unsigned i = 0; i < n; i++) {
                        cr_assert(mailname_compare(found[i]->name, after) > 0);
                        if (found[i]->type == MBTYPE_NORMAL)
                                strcat(strcat(shown, found[i]->name), " ");
                        else
                                cr_assert(mboxlist_has_children(store_mboxlist(s), found[i]->name), "%s", found[i]->name);
                        strcpy(after, found[i]->name);
                        mbentry_unref(&found[i]);
                }
        cr_assert_str_eq(shown, expected);
}

/* Does anything of the tree, names that have only children included, come to lie on a mailbox? */
static bool model_taken(struct model *m, const char *from, const char *to)
{
        for (unsigned i = 0; i < m->n; i++)
                if (strcmp(m->names[i], from) == 0 || mailname_is_below(m->names[i], from)) {
                        char name[64];

                        snprintf(name, sizeof name, "%s%s", to, m->names[i] + strlen(from));
                        for (size_t len = strlen(name); len >= strlen(to); len--)
                                if (!name[len] || name[len] == '.') {
                                        name[len] = '\0';
                                        if (model_find(m, name) >= 0)
                                                return true;
                                }
                }
        return false;
}

static void model_step(struct store *s, struct model *m)
{
        struct mboxlist *ml = store_mboxlist(s);
        char a[32], b[32];
        int rc, at;

        random_name(a);
        random_name(b);
        at = model_find(m, a);
        switch (rand_r(&model_seed) % 4) {
        case 0:
        case 1:
                rc = create(s, a);
                cr_assert_eq(rc, at >= 0 ? -1 : 0, "create %s: %s", a, err.text);
                if (rc == 0)
                        strcpy(m->names[m->n++], a);
                break;
        case 2:
                rc = mboxlist_delete(ml, a, true, &err);
                cr_assert_eq(rc, at >= 0 ? 0 : -1, "delete %s: %s", a, err.text);
                if (rc == 0)
                        memmove(m->names[at], m->names[--m->n], sizeof m->names[0]);
                break;
        case 3:
                rc = mboxlist_rename(ml, a, b, true, NULL, &err);
                if (rc < 0) {
                        bool any = at >= 0;

                        for (unsigned i = 0; i < m->n; i++)
                                any |= mailname_is_below(m->names[i], a);
                        cr_assert(!any || strcmp(a, b) == 0 || mailname_is_below(a, b) || mailname_is_below(b, a) || model_taken(m, a, b),
                                  "rename %s %s: %s", a, b, err.text);
                        break;
                }
                cr_assert_not(model_taken(m, a, b), "rename %s %s", a, b);
                for (unsigned i = 0; i < m->n; i++)
                        if (strcmp(m->names[i], a) == 0 || mailname_is_below(m->names[i], a)) {
                                char name[64];

                                snprintf(name, sizeof name, "%s%s", b, m->names[i] + strlen(a));
                                cr_assert_lt(strlen(name), 32);
                                strcpy(m->names[i], name);
                        }
                break;
        }
}

Test(mboxlist, agrees_with_a_model)
{
        struct store *s = scratch_open("virtdomains: userid\n" IMMEDIATE);
        static struct model m;

        model_seed = 4711;
        for (int i = 0; i < 1500; i++) {
                bool deep = false;

                model_step(s, &m);
                compare(s, &m);
                for (unsigned j = 0; j < m.n; j++)
                        deep |= strlen(m.names[j]) > 20;
                if (deep || i % 300 == 299)
                        while (m.n && deep) {
                                cr_assert_eq(mboxlist_delete(store_mboxlist(s), m.names[m.n - 1], true, &err), 0);
                                m.n--;
                        }
                if (i % 300 == 299) {
                        reopen(&s, "virtdomains: userid\n" IMMEDIATE);
                        compare(s, &m);
                }
        }
        store_close(&s);
}

/* ---- check ---- */

static struct str problems = STR_INIT;

static void note_problem(void *ctx, const char *text)
{
        (void)ctx;
        str_printf(&problems, "%.9s;", text);
}

Test(mboxlist, orphans_are_quarantined_and_nothing_else)
{
        struct store *s = scratch_open(NULL);
        struct mboxlist *ml = store_mboxlist(s);
        const struct mbentry *e;
        char path[300];

        must_create(s, "user.joe");
        cr_assert_eq(mboxlist_check(ml, true, note_problem, NULL, &err), 0, "%s", err.text);
        cr_expect_str_eq(problems.data, "");
        snprintf(path, sizeof path, "%s/mail/q/q/qqorphan0123456789abcdef", scratch_dir);
        cr_assert_eq(fs_mkdir_p(path, 0700, NULL), 0);
        cr_assert_eq(mboxlist_check(ml, false, note_problem, NULL, &err), 0);
        cr_expect_str_eq(problems.data, "orphan: /;");
        cr_expect(fs_exists(path));
        cr_assert_eq(mboxlist_check(ml, true, note_problem, NULL, &err), 0);
        cr_expect_not(fs_exists(path));
        snprintf(path, sizeof path, "%s/mail/quarantine.", scratch_dir);
        cr_expect(fs_exists(path));
        str_clear(&problems);
        cr_assert_eq(mboxlist_check(ml, true, note_problem, NULL, &err), 0);
        cr_expect_str_eq(problems.data, "", "what is quarantined is left alone");
        e = find(s, "user.joe");
        snprintf(path, sizeof path, "%s/mail/%c/%c/%s", scratch_dir, e->uniqueid[0], e->uniqueid[1], e->uniqueid);
        fs_remove_tree(path, NULL);
        mbentry_unref(&e);
        cr_assert_eq(mboxlist_check(ml, true, note_problem, NULL, &err), 0);
        cr_expect_str_eq(problems.data, "dangling:;");
        cr_expect_str_eq(listing(s, ""), "user.joe", "the entry stays");
        str_deinit(&problems);
        store_close(&s);
}

Test(mboxlist, a_readonly_configuration_changes_nothing)
{
        struct store *s = scratch_open(NULL);

        must_create(s, "user.joe");
        reopen(&s, "readonly: yes\n");
        cr_expect_eq(create(s, "user.bob"), -1);
        cr_expect_eq(err.code, ERR_READONLY);
        cr_expect_eq(mboxlist_delete(store_mboxlist(s), "user.joe", true, &err), -1);
        cr_expect_eq(mboxlist_rename(store_mboxlist(s), "user.joe", "user.bob", true, NULL, &err), -1);
        cr_expect_eq(sub_set(s, "joe", "x", true, &err), -1);
        cr_expect_str_eq(listing(s, ""), "user.joe");
        store_close(&s);
}
