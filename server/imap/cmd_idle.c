/*
 * IDLE (RFC 9051 6.3.13, RFC 2177). While it lasts the session holds what is selected and a watch, nothing else; the loop calls
 * imap_poll() when the watch has woken it, and this handler when a line comes.
 */
#include "server/imap/selected.h"

static void stop_watching(struct imap *imap)
{
        imap->idling = false;
        imap_watch_selected(imap);
}

static enum cmd_result begin(struct imap *imap)
{
        struct imap_selected *sel = imap->sel;

        if (imap_end(&imap->cmd.args) < 0)
                return imap_bad(imap, "%s", imap->cmd.args.err.text);
        imap->cmd.state = imap;                                 /* nothing to remember but that we were here */
        imap->cmd.cleanup = stop_watching;
        imap->idling = true;
        imap_put(imap, "+ idling\r\n");
        if (!sel)
                return CMD_CONTINUE;
        imap_watch_selected(imap);                              /* watch first, then look: no news falls between */
        if (!imap_poll(imap, true))
                session_wake(imap->s->id, WAKE_NEWS);           /* the rest when these are read */
        return CMD_CONTINUE;
}

enum cmd_result cmd_idle(struct imap *imap)
{
        if (!imap->cmd.state)
                return begin(imap);
        stop_watching(imap);
        if (!imap_word_is(imap->cmd.line, "DONE"))
                return imap_bad(imap, "Expected DONE");
        return imap_ok(imap, NULL, "IDLE completed");
}
