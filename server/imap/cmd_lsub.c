/* LSUB reference pattern (RFC 3501 6.3.9) */
#include "server/imap/imap_private.h"
#include "server/imap/list.h"
#include "server/imap/list_args.h"

enum cmd_result cmd_lsub(struct imap *imap)
{
        struct list *l = imap->cmd.state;
        struct err err = ERR_INIT;

        if (!l) {
                l = list_create(imap, true);
                if (!list_parse_lsub(l))
                        return CMD_DONE;
                if (list_sub_begin(l, &err) < 0)
                        return imap_fail(imap, &err);
        }
        return list_run(l, list_sub_step);
}
