/* tool - see tool.h */
#include "server/tools/tool.h"

#include <stdio.h>

#include "server/ctl/client.h"
#include "server/identity.h"
#include "util/diag.h"
#include "util/log.h"

int tool_open(struct tool *t, const char *name, const char *config, enum tool_need need)
{
        struct diag diag = DIAG_INIT;
        struct err err = ERR_INIT;
        struct identity id;
        int ret = -1;

        *t = (struct tool){ .name = name };
        if (conf_load(config, NULL, &t->conf, &diag, &err) == 0 &&
            (need == TOOL_CONF || (conf_require_store(t->conf, &diag, &err) == 0 && identity_find(t->conf, &id, &err) == 0 &&
                                   identity_become(&id, &err) == 0)))
                ret = 0;
        if (ret < 0)
                tool_fail(t, &err);
        log_open(LOG_TO_SYSLOG, name, -1, LOG_WARN);
        diag_deinit(&diag);
        return ret;
}

void tool_close(struct tool *t)
{
        if (t->conf)
                conf_unref(&t->conf);
}

int tool_call(struct tool *t, const char *op, json_t *args, void (*row)(void *ctx, json_t *row), void *ctx, struct err *err)
{
        struct ctl_client client = { .conf = t->conf, .row = row, .ctx = ctx };

        return ctl_client_call(&client, op, args, err);
}

int tool_fail(const struct tool *t, const struct err *err)
{
        fprintf(stderr, "%s: %s\n", t->name, err->text);
        return TOOL_FAILED;
}

const char *tool_str(json_t *row, const char *key)
{
        const char *s = json_string_value(json_object_get(row, key));

        return s ? s : "";
}
