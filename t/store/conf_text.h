/* conf_text - a configuration from a string, for tests. */
#ifndef T_STORE_CONF_TEXT_H
#define T_STORE_CONF_TEXT_H

#include <stdio.h>
#include <stdlib.h>

#include "util/conf.h"

static inline int conf_text_slurp(void *context, const char *path, struct str *out, struct err *err)
{
        (void)path;
        (void)err;
        str_append_str(out, context);
        return 0;
}

static inline struct conf *conf_text(const char *text)
{
        char copy[8192];
        struct conf_source source = { conf_text_slurp, copy };
        struct diag diag;
        struct conf *conf = NULL;
        struct err err = ERR_INIT;

        snprintf(copy, sizeof copy, "%s", text);
        diag_init(&diag);
        if (conf_load("/test/imapd.conf", &source, &conf, &diag, &err) < 0) {
                fprintf(stderr, "configuration: %s\n", err.text);
                abort();
        }
        diag_deinit(&diag);
        return conf;
}

#endif
