/* annot_user - private annotations follow their user when he is renamed, and nobody has them when he is removed. */
#include <criterion/criterion.h>

#include "store/annot.h"
#include "store/annot_user.h"
#include "t/store/scratch.h"
#include "util/must.h"

static void setup(void) { scratch_make(); }
static void teardown(void) { scratch_remove(); }

TestSuite(annot_user, .init = setup, .fini = teardown, .timeout = 60);

static struct mailbox *open_box(struct store *store, const char *name)
{
        const struct mbentry *e = mboxlist_find(store_mboxlist(store), name);
        struct mbox_create what = { .name = name };
        struct mailbox_ident ident;
        struct mailbox *m;
        struct err err = ERR_INIT;

        if (!e)
                cr_assert_eq(mboxlist_create(store_mboxlist(store), &what, &e, &err), 0, "%s", err.text);
        cr_assert_eq(mbentry_ident(store, e, &ident, &err), 0);
        cr_assert_eq(mailbox_open(store, &ident, &m, &err), 0, "%s", err.text);
        mbentry_unref(&e);
        return m;
}

static int try_set(struct mailbox *m, const char *user, const char *value, struct err *err)
{
        struct annot a = { "/comment", user, value ? span_of(value) : (struct span){ NULL, 0 }, 0 };
        struct waiter w;

        waiter_init_blocking(&w);
        return mailbox_annotate(m, &a, 1, &w, err) < 0 ? -1 : waiter_block(&w, err);
}

static void set(struct store *store, const char *box, const char *user, const char *value)
{
        struct mailbox *m = open_box(store, box);
        struct err err = ERR_INIT;

        cr_assert_eq(annot_user_make(store, user, &err), 0, "%s", err.text);
        cr_assert_eq(try_set(m, user, value, &err), 0, "%s", err.text);
        mailbox_unref(&m);
}

/* "user=value …" of whom this user (NULL: all) may see. */
static const char *get(struct store *store, const char *box, const char *user)
{
        static char out[400];
        struct mailbox *m = open_box(store, box);
        struct arena arena = ARENA_INIT;
        struct annot *list;
        uint32_t n = mailbox_annots(m, 0, user, &arena, &list);

        *out = '\0';
        for (uint32_t i = 0; i < n; i++)
                snprintf(out + strlen(out), sizeof out - strlen(out), "%s%s=%.*s", i ? " " : "", list[i].user, (int)list[i].value.len,
                         list[i].value.p);
        arena_deinit(&arena);
        mailbox_unref(&m);
        return out;
}

static void reopen(struct store **store)
{
        store_close(store);
        *store = scratch_open(NULL);
}

Test(annot_user, needs_a_key_before_the_first_one)
{
        struct store *store = scratch_open(NULL);
        struct mailbox *m = open_box(store, "user.ann");
        struct err err = ERR_INIT;
        char key[ANNOT_USER_KEY_MAX], again[ANNOT_USER_KEY_MAX];

        cr_assert(!annot_user_known(store, "ann"));
        cr_assert_lt(try_set(m, "ann", "x", &err), 0);
        cr_assert_eq(err.code, ERR_BUSY);
        err_clear(&err);
        cr_assert_eq(try_set(m, "ann", NULL, &err), 0, "%s", err.text);         /* nothing to be removed */
        cr_assert_eq(annot_user_make(store, "ann", &err), 0);
        cr_assert_eq(annot_user_make(store, "ann", &err), 0);
        cr_assert(annot_user_key(store, "ann", key));
        cr_assert_eq(key[0], '/');
        cr_assert_eq(annot_user_make(store, "bob", &err), 0);
        cr_assert(annot_user_key(store, "bob", again));
        cr_assert_str_neq(again, key);
        mailbox_unref(&m);
        reopen(&store);
        cr_assert(annot_user_key(store, "ann", again));
        cr_assert_str_eq(again, key);
        store_close(&store);
}

Test(annot_user, takes_them_along_when_he_is_renamed)
{
        struct store *store = scratch_open(NULL);
        struct err err = ERR_INIT;

        set(store, "user.ann", "ann", "in her own");
        set(store, "user.bob", "ann", "in another's");
        set(store, "user.bob", "bob", "his");
        set(store, "shared", "ann", "in a shared one");
        set(store, "shared", "carl", "the former's");
        cr_assert_eq(mboxlist_rename_tree(store_mboxlist(store), "user.ann", "user.carl", NULL, &err), 0, "%s", err.text);
        for (int i = 0; i < 2; i++) {
                cr_assert_str_eq(get(store, "user.carl", "carl"), "carl=in her own");
                cr_assert_str_eq(get(store, "user.bob", NULL), "bob=his carl=in another's");
                cr_assert_str_eq(get(store, "shared", NULL), "carl=in a shared one");           /* the former carl's are nobody's */
                cr_assert_str_eq(get(store, "shared", "ann"), "");
                reopen(&store);
        }
        set(store, "shared", "ann", "a new ann");
        cr_assert_str_eq(get(store, "shared", NULL), "ann=a new ann carl=in a shared one");
        store_close(&store);
}

Test(annot_user, leaves_them_to_nobody_when_he_is_removed)
{
        struct store *store = scratch_open(NULL);
        struct err err = ERR_INIT;

        set(store, "user.ann", "ann", "1");
        set(store, "shared", "ann", "2");
        set(store, "shared", "bob", "3");
        cr_assert_eq(mboxlist_delete_tree(store_mboxlist(store), "user.ann", true, &err), 0, "%s", err.text);
        for (int i = 0; i < 2; i++) {
                cr_assert_str_eq(get(store, "shared", NULL), "bob=3");
                cr_assert_str_eq(get(store, "shared", "ann"), "");
                reopen(&store);
        }
        set(store, "shared", "ann", "somebody else");           /* no key is given twice */
        cr_assert_str_eq(get(store, "shared", NULL), "ann=somebody else bob=3");
        store_close(&store);
}
