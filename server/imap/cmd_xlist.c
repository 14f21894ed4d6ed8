/* XLIST: LIST with special uses and \\Inbox, as Gmail had it before RFC 6154, and as Cyrus still answers it. */
#include "server/imap/imap_private.h"
#include "server/imap/list.h"
#include "server/imap/list_args.h"

enum cmd_result cmd_xlist(struct imap *imap)
{
        struct list *l = imap->cmd.state;

        if (!l) {
                l = list_create(imap, false);
                l->xlist = true;
                if (!list_parse_lsub(l))                        /* nothing of RFC 5258 */
                        return CMD_DONE;
                if (l->patterns_n == 1 && !l->patterns[0].len) {
                        imap_untagged(imap, "XLIST (\\Noselect) \"%c\" \"\"", l->sep);
                        return imap_ok(imap, NULL, "Completed");
                }
                list_walk_begin(l);
        }
        return list_run(l, list_walk_step);
}
