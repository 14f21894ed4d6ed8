/* expire_event - see expire_event.h. The operation is the one that the program cyr_expire asks for. */
#include "server/expire_event.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "server/control/ops.h"
#include "server/service.h"
#include "server/session.h"
#include "server/tools/tool.h"
#include "util/log.h"
#include "util/must.h"

struct expire_event {
        struct store *store;
        struct conf *conf;
        json_t *args;
};

static atomic_bool running;                     /* two at a time would only be in each other's way */

static void drop_row(struct ctl_call *call, json_t *row)
{
        (void)call;
        json_decref(row);
}

static void drop_progress(struct ctl_call *call, uint64_t done, uint64_t total, const char *unit)
{
        (void)call;
        (void)done;
        (void)total;
        (void)unit;
}

static bool is_cancelled(struct ctl_call *call)
{
        (void)call;
        return engine_stopping();
}

static void run(void *arg)
{
        struct expire_event *event = arg;
        struct ctl_call call = { .store = event->store, .conf = event->conf, .in_daemon = true, .args = event->args, .row = drop_row,
                                 .progress = drop_progress, .cancelled = is_cancelled };
        struct err err = ERR_INIT;
        char quoted[LOG_QUOTE_MAX];

        if (ctl_expire(&call, &err) < 0)
                log_event(LOG_ERROR, NULL, "event.failed", "program=cyr_expire reason=%s", log_quote_str(quoted, err.text));
        json_decref(event->args);
        conf_unref(&event->conf);
        free(event);
        atomic_store(&running, false);
}

int expire_event_begin(struct store *store, int argc, char *const *argv, struct err *err)
{
        json_t *args = tool_cyr_expire_args(argc, argv, err);
        struct expire_event *event;

        if (!args)
                return -1;
        if (atomic_exchange(&running, true)) {
                json_decref(args);
                return err_set(err, ERR_BUSY, "the last run has not ended");
        }
        event = xmalloc(sizeof *event);
        *event = (struct expire_event){ store, engine_conf(), args };
        engine_call(OFFLOAD_CONTROL, run, event);
        return 0;
}
