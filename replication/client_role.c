/* client_role - what two hosts with sync_failover tell one another when a connection is made, and a planned hand-over (role.h). */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "replication/client_private.h"

static int take_epoch(void *ctx, const struct dlist *item, struct err *err)
{
        struct role_state *s = ctx;
        const char *name, *id;

        (void)err;
        if (span_ieq_str(item->key, "X_EPOCH") && dlist_text(item, "ROLE", &name) && role_parse(name, &s->role) &&
            dlist_u64(item, "NUMBER", INT64_MAX - 1, &s->epoch.number) && dlist_text(item, "ID", &id))
                snprintf(s->epoch.id, sizeof s->epoch.id, "%.16s", id);
        return 0;
}

/* As a promotion without us may count on. While everything is being compared the replica may lack anything. */
static enum role_mode mode_of(const struct client *c)
{
        const char *channel = c->options.channel;

        if (c->options.mode == CLIENT_MODE_UNTOLD)
                return ROLE_UNTOLD;
        if (strcmp(conf_enum(c->conf, channel, "sync_mode"), "synchronous") != 0)
                return ROLE_ASYNCHRONOUS;
        return conf_duration_s(c->conf, channel, "sync_degrade_after") == CONF_NEVER && c->options.mode == CLIENT_MODE_WHOLE ? ROLE_NEVER : ROLE_DEGRADES;
}

static enum client_result ask(struct client *c, const char *verb, const char *key, const struct role_epoch *epoch, const char *mode, struct role_state *theirs_r,
                              struct err *err)
{
        const struct client_reply reply = { .line = take_epoch, .ctx = theirs_r };

        *theirs_r = (struct role_state){ .role = ROLE_NONE };
        client_begin(c, verb);
        dlist_write_kvlist(&c->w, key);
        dlist_write_u64(&c->w, "NUMBER", epoch->number);
        dlist_write_text(&c->w, "ID", epoch->id);
        if (mode)
                dlist_write_text(&c->w, "MODE", mode);
        dlist_write_end(&c->w);
        return client_finish(c, &reply, err);
}

static int not_understood(enum client_result r, struct err *err)
{
        if (r == CLIENT_FAILED)
                return err_set(err, ERR_UNSUPPORTED, "sync_failover is on here, and not there");
        if (err->code == ERR_NONE || (err->code != ERR_CANCELLED && err->code != ERR_TIMEOUT))
                err->code = ERR_UNAVAILABLE;
        return -1;
}

int client_agree_on_role(struct client *c, struct err *err)
{
        enum role_mode mode = mode_of(c);
        struct role_state mine, theirs;
        enum client_result r;

        role_get(&mine);
        if (mine.role != ROLE_MASTER)
                return role_may_replicate(err);
        if (mode == ROLE_NEVER && role_promise(err) < 0)
                return -1;
        r = ask(c, "GET", "X_EPOCH", &mine.epoch, role_mode_name(mode), &theirs, err);
        if (r == CLIENT_OK) {
                role_accepted(&mine.epoch, mode);
                c->agreed = true;
                return 0;
        }
        if (r != CLIENT_FAILED || !client_replied(c, "X_FENCED"))
                return not_understood(r, err);
        role_refused(&theirs);
        return err_set(err, ERR_UNAVAILABLE, "the other host, %s of epoch %" PRIu64 ", does not follow this one: %.200s", role_name(theirs.role), theirs.epoch.number,
                       err->text);
}

int client_hand_over(struct client *c, const struct role_epoch *epoch, struct role_state *theirs_r, struct err *err)
{
        enum client_result r = ask(c, "APPLY", "X_HANDOVER", epoch, NULL, theirs_r, err);

        if (r == CLIENT_OK)
                return 0;
        if (r == CLIENT_FAILED && client_replied(c, "X_FENCED"))
                return err_set(err, ERR_FENCED, "%s", theirs_r->role == ROLE_MASTER ? "the master does not hand over" : "the other host is not the master");
        return r == CLIENT_FAILED ? -1 : not_understood(r, err);
}
