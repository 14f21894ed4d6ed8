/* CANCELUPDATE (RFC 5267 4.3.5) */
#include "server/imap/search_context.h"

/* All or none: a tag that is not known ends the command before any is cancelled. */
enum cmd_result cmd_cancelupdate(struct imap *imap)
{
        struct imap_parser *ip = &imap->cmd.args, again = *ip;
        struct span tag;

        do {
                if (imap_sp(ip) < 0 || imap_string(ip, &tag) < 0)
                        return imap_bad(imap, "%s", ip->err.text);
                if (!search_context_exists(imap, tag))
                        return imap_bad(imap, "No search with this tag is kept up to date");
        } while (!imap_at_end(ip));
        while (!imap_at_end(&again) && imap_sp(&again) == 0 && imap_string(&again, &tag) == 0)
                search_context_cancel(imap, tag);
        return imap_ok(imap, NULL, "No further updates");
}
