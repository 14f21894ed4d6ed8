/* verify - see verify.h */
#include "server/ctl/verify.h"

#include <stdio.h>

struct verify { void (*row)(void *ctx, json_t *row); void *ctx; void (*progress)(void *ctx, uint64_t done, uint64_t total, const char *unit);
                void (*waiting)(void *ctx); json_int_t compared; };

static void take_row(void *ctx, json_t *row)
{
        struct verify *v = ctx;

        if (json_object_get(row, "compared"))
                v->compared = json_integer_value(json_object_get(row, "compared"));
        else
                v->row(v->ctx, row);
}

static void pass_progress(void *ctx, uint64_t done, uint64_t total, const char *unit)
{
        struct verify *v = ctx;

        v->progress(v->ctx, done, total, unit);
}

static void pass_waiting(void *ctx)
{
        struct verify *v = ctx;

        v->waiting(v->ctx);
}

int verify_run(struct ctl_client *client, json_t *args, struct err *err)
{
        struct verify v = { client->row, client->ctx, client->progress, client->waiting, -1 };
        struct ctl_client ours = *client;
        int rc;

        if (client->json)
                return ctl_client_call(client, "sync.verify", args, err);
        ours.row = take_row;
        ours.progress = client->progress ? pass_progress : NULL;
        ours.waiting = client->waiting ? pass_waiting : NULL;
        ours.ctx = &v;
        rc = ctl_client_call(&ours, "sync.verify", args, err);
        if (v.compared >= 0) {
                json_t *nothing = json_object();        /* not shown, but whatever bar there is goes */

                client->row(client->ctx, nothing);
                json_decref(nothing);
                printf("%" JSON_INTEGER_FORMAT " users and shared mailboxes compared: no difference\n", v.compared);
        }
        return rc;
}
