/*
 * stubs - the least of mailboxes that the tests of names need: directories. Weak: where the real functions are linked, they win.
 */
#ifndef T_STORE_STUBS_H
#define T_STORE_STUBS_H

#include "store/change.h"
#include "store/logstore.h"
#include "store/mailbox.h"
#include "util/fs.h"

#define WEAK __attribute__((weak))

static inline void stub_path(const struct mailbox_ident *ident, struct str *path)
{
        str_printf(path, "%s/%c/%c/%s", ident->partition_dir, ident->uniqueid[0], ident->uniqueid[1], ident->uniqueid);
}

WEAK int mailbox_create_files(struct store *store, const struct mailbox_ident *ident, struct err *err)
{
        struct str path = STR_INIT;
        int rc;

        (void)store;
        stub_path(ident, &path);
        rc = fs_mkdir_p(path.data, 0700, err);
        str_deinit(&path);
        return rc;
}

WEAK void mailbox_mark_deleted(struct store *store, const struct mailbox_ident *ident)
{
        struct str path = STR_INIT;

        (void)store;
        stub_path(ident, &path);
        fs_remove_tree(path.data, NULL);
        str_deinit(&path);
}

WEAK void mailbox_set_name(struct store *store, const char *uniqueid, const char *name)
{
        (void)store;
        (void)uniqueid;
        (void)name;
}

WEAK struct mailbox *mailbox_find_open(struct store *store, const char *uniqueid)
{
        (void)store;
        (void)uniqueid;
        return NULL;
}

WEAK void mailbox_unref(struct mailbox **mbox)
{
        *mbox = NULL;
}

WEAK int logstore_create(struct store *store, const struct logstore_options *options, struct logstore **ls_r, struct err *err)
{
        (void)store;
        (void)options;
        (void)err;
        *ls_r = NULL;
        return 0;
}

WEAK void logstore_destroy(struct logstore **ls)
{
        *ls = NULL;
}

WEAK void change_publish(struct store *store, const struct change *change)
{
        (void)store;
        (void)change;
}

#endif
