/*
 * reset - see reset.h. Mailboxes go at once, whatever delete_mode says, those below deletedprefix too, INBOX last; then subscriptions, seen states,
 * quota roots, scripts. Each leaves a tombstone, as on a master that deletes. What has been begun is gone on with by the next call: nothing stands
 * between two users.
 */
#include "replication/reset.h"

#include <stdio.h>
#include <unistd.h>

#include "server/control/ops.h"
#include "server/tools/tool.h"
#include "store/replica.h"
#include "store/user.h"
#include "util/array.h"

/* "user"; "local": MUPDATE is not told. A row for each mailbox: "mailbox". */
static int reset(struct ctl_call *call, struct err *err)
{
        const char *given = ctl_arg(call, "user"), *userid, **names;
        bool local = ctl_arg_bool(call, "local");
        struct arena arena = ARENA_INIT;
        int rc = -1;
        size_t n;

        if (!given || !*given)
                return err_set(err, ERR_SYNTAX, "user: a user is wanted");
        if (user_canonify(call->store, given, &arena, &userid, err) < 0)
                goto out;
        n = replica_user_mailboxes(call->store, userid, true, &arena, &names);
        for (size_t i = n; i > 0; i--) {                        /* children come behind their parents */
                enum replica_code code = replica_delete(call->store, names[i - 1], local, err);

                if (code != REPLICA_OK && code != REPLICA_NONEXISTENT)
                        goto out;
                err_clear(err);
                if (code == REPLICA_OK)
                        call->row(call, json_pack("{s:s}", "mailbox", names[i - 1]));
        }
        rc = replica_delete_user(call->store, userid, local, err) == REPLICA_OK ? 0 : -1;
out:
        arena_deinit(&arena);
        return rc;
}

void sync_reset_register(void)
{
        static const struct ctl_op ops[] = { { "sync.reset", reset, 0 } };

        ctl_ops_add(ops, ARRAY_LEN(ops));
}

static void print_row(void *ctx, json_t *row)
{
        if (*(bool *)ctx)
                printf("%s\n", tool_str(row, "mailbox"));
}

int sync_reset_main(int argc, char **argv)
{
        static const char usage[] = "usage: sync_reset [-C imapd.conf] [-v] [-L] -f user...\n";
        bool verbose = false, force = false, local = false;
        const char *config = NULL;
        int opt, status = TOOL_OK;
        struct tool t;

        while ((opt = getopt(argc, argv, "C:vfL")) != -1) {
                switch (opt) {
                case 'C': config = optarg; break;
                case 'v': verbose = true; break;
                case 'f': force = true; break;
                case 'L': local = true; break;
                default: fputs(usage, stderr); return TOOL_USAGE;
                }
        }
        if (optind == argc) {
                fputs(usage, stderr);
                return TOOL_USAGE;
        }
        if (!force) {
                fprintf(stderr, "sync_reset: all mail of these users would be removed from this server, for good: say -f to do so\n");
                return TOOL_FAILED;
        }
        if (tool_open(&t, "sync_reset", config, TOOL_STORE) < 0)
                status = TOOL_FAILED;
        for (int i = optind; i < argc && status == TOOL_OK; i++) {
                struct err err = ERR_INIT;

                if (verbose)
                        printf("USER %s\n", argv[i]);
                if (tool_call(&t, "sync.reset", json_pack("{s:s, s:b}", "user", argv[i], "local", (int)local), print_row, &verbose, &err) < 0)
                        status = tool_fail(&t, &err);
        }
        tool_close(&t);
        return status;
}
