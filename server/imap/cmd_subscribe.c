/* SUBSCRIBE mailbox (RFC 9051 6.3.7), and what UNSUBSCRIBE shares with it */
#include "server/imap/cmds.h"
#include "server/imap/imap_private.h"

struct sub_state {
        struct imap *imap;
        const char *internal;
        bool subscribed;
        struct err err;
};

static void job(void *arg)
{
        struct sub_state *st = arg;

        sub_set(st->imap->store, st->imap->userid, st->internal, st->subscribed, &st->err);
}

/* Subscriptions are names, but only names that can be seen: nobody finds out by subscribing what there is. */
static bool may_subscribe(struct imap *imap, const char *internal)
{
        const struct mbentry *entry;
        uint32_t rights;

        if (conf_switch(imap->conf, imap_service(imap), "allowallsubscribe"))
                return true;
        entry = imap_look_up(imap, internal, &rights);
        if (entry)
                mbentry_unref(&entry);
        if (imap_allows(imap, rights))
                return true;
        imap_refuse_mailbox(imap, internal, rights);
        return false;
}

enum cmd_result imap_subscribe_command(struct imap *imap, bool subscribed)
{
        struct sub_state *st = imap->cmd.state;
        const char *internal;

        if (st)
                return st->err.code ? imap_fail(imap, &st->err) : imap_ok(imap, NULL, "Completed");
        if (imap_sp(&imap->cmd.args) < 0)
                return imap_bad(imap, "%s", imap->cmd.args.err.text);
        if (!imap_arg_mailbox(imap, &internal))
                return CMD_DONE;
        if (imap_end(&imap->cmd.args) < 0)
                return imap_bad(imap, "%s", imap->cmd.args.err.text);
        if (subscribed && !may_subscribe(imap, internal))
                return CMD_DONE;
        imap->cmd.state = st = ARENA_NEW(&imap->s->arena, struct sub_state);
        st->imap = imap;
        st->internal = imap->cmd.own_names[0] = internal;
        st->subscribed = subscribed;
        return imap_offload(imap, OFFLOAD_DB, job, st);
}

enum cmd_result cmd_subscribe(struct imap *imap)
{
        return imap_subscribe_command(imap, true);
}
