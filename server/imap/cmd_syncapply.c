/* cmd_syncapply - APPLY of csync, for administrators (sync.h). */
#include "server/imap/imap_private.h"

enum cmd_result cmd_syncapply(struct imap *imap)
{
        return imap_sync_command(imap, "APPLY");
}
