/* cmd_syncrestore - RESTORE of csync, for administrators (sync.h). */
#include "server/imap/imap_private.h"

enum cmd_result cmd_syncrestore(struct imap *imap)
{
        return imap_sync_command(imap, "RESTORE");
}
