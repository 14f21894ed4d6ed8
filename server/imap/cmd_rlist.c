/* RLIST (RFC 2193 5.1): LIST by a client that follows referrals. All mailboxes are here, so there is nothing to refer to. */
#include "server/imap/imap_private.h"
#include "server/imap/list.h"
#include "server/imap/list_args.h"

enum cmd_result cmd_rlist(struct imap *imap)
{
        struct list *l = imap->cmd.state;

        if (!l) {
                l = list_create(imap, false);
                l->remote = true;
                if (!list_parse_lsub(l))                        /* the plain form only */
                        return CMD_DONE;
                if (l->patterns_n == 1 && !l->patterns[0].len) {
                        list_put_root(imap);
                        return imap_ok(imap, NULL, "Completed");
                }
                list_walk_begin(l);
        }
        return list_run(l, list_walk_step);
}
