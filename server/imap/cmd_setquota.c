/*
 * SETQUOTA root (resource limit …) (RFC 9208 4.1.3), for admins
 * Limits that are not named are taken away. A root that does not exist is made, when there is a mailbox of that name or below it. The
 * resources have the names of RFC 9208 or Cyrus's older ones; who uses the latter is answered with them from then on.
 */
#include <inttypes.h>

#include "server/imap/imap_private.h"
#include "server/imap/quotacmd.h"

struct setquota_state {
        struct store *store;
        const char *root;
        int64_t limit[QUOTA_RESOURCES];
        struct err err;
};

static const bool all_resources[QUOTA_RESOURCES] = { true, true, true, true };

static void job(void *arg)
{
        struct setquota_state *st = arg;

        quota_set(st->store, st->root, st->limit, all_resources, false, &st->err);
}

/* "(" [resource SP number *(SP resource SP number)] ")". False: the reply was sent. */
static bool parse_list(struct imap *imap, struct setquota_state *st)
{
        struct imap_parser *ip = &imap->cmd.args;
        bool unknown = false, first = true, cyrus = false;

        if (imap_open_paren(ip) < 0)
                goto bad;
        while (!imap_peek_c(ip, ')')) {
                struct span name;
                uint64_t n;
                int resource;

                if (!first && imap_sp(ip) < 0)
                        goto bad;
                first = false;
                if (imap_atom(ip, &name) < 0 || imap_sp(ip) < 0 || imap_number64(ip, &n) < 0)
                        goto bad;
                resource = quota_resource_find(name);
                unknown |= resource < 0;
                cyrus |= span_istarts(name, "X-");
                if (n > (uint64_t)QUOTA_LIMIT_MAX) {
                        imap_no(imap, "LIMIT", "The largest limit is %" PRId64, QUOTA_LIMIT_MAX);
                        return false;
                }
                if (resource >= 0)
                        st->limit[resource] = (int64_t)n;
        }
        if (imap_close_paren(ip) < 0 || imap_end(ip) < 0)
                goto bad;
        if (unknown)
                imap_no(imap, "CANNOT", "Unsupported quota resource");
        imap->cyrus_quota_names |= cyrus;
        return !unknown;
bad:
        imap_bad(imap, "%s", ip->err.text);
        return false;
}

static enum cmd_result begin(struct imap *imap)
{
        struct imap_parser *ip = &imap->cmd.args;
        struct setquota_state *st = ARENA_NEW(&imap->s->arena, struct setquota_state);

        st->store = imap->store;
        for (int i = 0; i < QUOTA_RESOURCES; i++)
                st->limit[i] = QUOTA_UNLIMITED;
        if (imap_sp(ip) < 0)
                return imap_bad(imap, "%s", ip->err.text);
        if (!imap_arg_mailbox(imap, &st->root))
                return CMD_DONE;
        if (imap_sp(ip) < 0)
                return imap_bad(imap, "%s", ip->err.text);
        if (!parse_list(imap, st))
                return CMD_DONE;
        imap->cmd.state = st;
        return imap_offload(imap, OFFLOAD_DB, job, st);
}

enum cmd_result cmd_setquota(struct imap *imap)
{
        struct setquota_state *st = imap->cmd.state;

        if (!st)
                return begin(imap);
        if (st->err.code)
                return imap_fail(imap, &st->err);
        imap_quota_put(imap, st->root);
        return imap_ok(imap, NULL, "Completed");
}
