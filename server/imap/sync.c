/* sync - see sync.h. The octets behind the name of a command come here as they arrive. */
#include "server/imap/sync.h"

#include "server/imap/imap_private.h"

static const struct imap_sync_ops *registered;          /* set once, before there are threads */

void imap_register_sync(const struct imap_sync_ops *ops)
{
        registered = ops;
}

const struct imap_sync_ops *imap_sync_ops(void)
{
        return registered;
}

void imap_sync_close(struct imap *imap)
{
        if (imap->sync)
                registered->close(&imap->sync);
}

static enum cmd_result answer(struct imap *imap, bool lost)
{
        const char *reply = registered->reply(imap->sync);

        if (span_istarts(span_of(reply), "OK "))
                imap_ok(imap, NULL, "%s", reply + 3);
        else if (span_istarts(span_of(reply), "NO "))
                imap_no(imap, NULL, "%s", reply + 3);
        else
                imap_bad(imap, "%s", reply + 4);
        return lost ? CMD_CLOSE : CMD_DONE;
}

static enum cmd_result go_on(struct imap *imap)
{
        struct imap_loop *loop = imap->loop;
        struct span in = { imap->s->in.data + loop->used, imap->s->in.len - loop->used };
        size_t used;
        enum sync_step step = registered->run(imap->sync, in, &used);

        loop->used += used;
        switch (step) {
        case SYNC_INPUT: return CMD_INPUT;
        case SYNC_AGAIN: return CMD_AGAIN;
        case SYNC_FLUSH: return CMD_FLUSH;
        case SYNC_WAIT:
                loop->wait = registered->waiter(imap->sync);
                imap->cmd.waiting = true;
                return CMD_WAIT;
        case SYNC_DONE:
        case SYNC_LOST: break;
        }
        return answer(imap, step == SYNC_LOST);
}

enum cmd_result imap_sync_command(struct imap *imap, const char *verb)
{
        struct sync_peer_params params = { .session = imap->s, .conf = imap->conf, .user = imap->userid, .is_admin = imap->is_admin };

        if (!imap->sync)
                imap->sync = registered->open(&params);
        if (!imap->cmd.state) {
                imap->cmd.state = imap;                 /* only says that it was begun */
                registered->begin(imap->sync, verb);
        }
        return go_on(imap);
}
