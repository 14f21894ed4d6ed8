/* server_role - GET X_EPOCH and APPLY X_HANDOVER: fail-over, an extension of the protocol between two cyrds (role.h). Without sync_failover there are none. */
#include <inttypes.h>
#include <stdio.h>

#include "replication/role.h"
#include "replication/server_private.h"
#include "replication/source.h"

static bool read_epoch(struct sync_peer *peer, struct role_epoch *e)
{
        const char *id;

        *e = (struct role_epoch){ 0 };
        if (!dlist_u64(peer->item, "NUMBER", INT64_MAX - 1, &e->number) || !dlist_text(peer->item, "ID", &id) || strlen(id) != 16)
                return false;
        snprintf(e->id, sizeof e->id, "%s", id);
        return role_epoch_valid(e);
}

/* Who we are: also with a refusal, for the other to learn from. */
static void say_who(struct sync_peer *peer, const struct role_state *s)
{
        const struct role_epoch *e = s->role == ROLE_FENCED && s->higher.number ? &s->higher : &s->epoch;
        struct dlist_writer w;

        sync_line(peer, &w);
        dlist_write_kvlist(&w, "X_EPOCH");
        dlist_write_text(&w, "ROLE", role_name(s->role));
        dlist_write_u64(&w, "NUMBER", e->number);
        dlist_write_text(&w, "ID", e->id[0] ? e->id : "-");
        dlist_write_end(&w);
        sync_line_end(peer);
}

void sync_refuse(struct sync_peer *peer, const struct err *err)
{
        char text[ERR_TEXT_MAX + 16];

        snprintf(text, sizeof text, "%s %s", err->code == ERR_FENCED ? "X_FENCED" : "IMAP_IOERROR", err->text);
        sync_no(peer, text);
}

/* An unknown command, as far as anybody can see. */
static bool is_on(struct sync_peer *peer)
{
        if (!role_on())
                sync_no(peer, "IMAP_PROTOCOL_ERROR Protocol error");
        return role_on();
}

void sync_get_x_epoch(struct sync_peer *peer)
{
        struct role_epoch epoch;
        struct role_state mine;
        enum role_mode mode;
        const char *text;
        struct err err = ERR_INIT;
        int rc;

        if (!is_on(peer))
                return;
        if (!read_epoch(peer, &epoch) || !dlist_text(peer->item, "MODE", &text) || !role_mode_parse(text, &mode)) {
                sync_bad_parameters(peer, NULL, 0, "no epoch");
                return;
        }
        rc = role_hello(&epoch, mode, &mine, &peer->turn, &err);
        say_who(peer, &mine);
        if (rc < 0)
                sync_refuse(peer, &err);
        else
                sync_ok(peer);
}

void sync_apply_x_handover(struct sync_peer *peer)
{
        struct role_epoch epoch;
        struct role_state mine;
        struct err err = ERR_INIT;
        int rc;

        if (!is_on(peer))
                return;
        if (!read_epoch(peer, &epoch)) {
                sync_bad_parameters(peer, NULL, 0, "no epoch");
                return;
        }
        rc = role_hand_over(&epoch, source_drain, NULL, &err);
        role_get(&mine);
        say_who(peer, &mine);
        if (rc < 0)
                sync_refuse(peer, &err);
        else
                sync_ok(peer);
}
