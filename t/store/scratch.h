/* scratch - a store of one test's own, in a directory below /tmp. */
#ifndef T_STORE_SCRATCH_H
#define T_STORE_SCRATCH_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/mboxlist.h"
#include "store/store.h"
#include "t/store/conf_text.h"
#include "util/fs.h"
#include "util/log.h"

static char scratch_dir[100];

static inline void scratch_make(void)
{
        snprintf(scratch_dir, sizeof scratch_dir, "/tmp/cyrd-test-%d", (int)getpid());
        fs_remove_tree(scratch_dir, NULL);
        fs_mkdir_p(scratch_dir, 0700, NULL);
        log_set_level(getenv("TEST_LOG") ? LOG_DBG : (enum log_level)-1);
}

static inline void scratch_remove(void)
{
        fs_remove_tree(scratch_dir, NULL);
}

/* Open with more lines of configuration; NULL: refused, with err. */
static inline struct store *scratch_try(const char *more, bool readonly, struct err *err)
{
        char text[4096];
        struct conf *conf;
        struct store_options options = { .readonly = readonly, .no_threads = true };
        struct store *store;

        snprintf(text, sizeof text, "configdirectory: %s/conf\npartition-default: %s/mail\ndefaultpartition: default\n%s", scratch_dir,
                 scratch_dir, more ? more : "");
        conf = conf_text(text);
        options.conf = conf;
        if (store_open(&options, &store, err) < 0)
                store = NULL;
        conf_unref(&conf);
        return store;
}

static inline struct store *scratch_open(const char *more)
{
        struct err err = ERR_INIT;
        struct store *store = scratch_try(more, false, &err);

        if (!store) {
                fprintf(stderr, "store_open: %s\n", err.text);
                abort();
        }
        return store;
}

#endif
