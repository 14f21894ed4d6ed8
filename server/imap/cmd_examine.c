/* EXAMINE mailbox [(CONDSTORE)] (RFC 9051 6.3.3): SELECT, but nothing may change. All of it is in cmd_select.c. */
#include "server/imap/cmds.h"
#include "server/imap/imap_private.h"

enum cmd_result cmd_examine(struct imap *imap)
{
        return imap_select_command(imap, true);
}
