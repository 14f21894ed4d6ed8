/* cmd_syncrestart - RESTART of csync, for administrators (sync.h). It has no argument: the line's end comes, and it is answered at once. */
#include "server/imap/imap_private.h"

enum cmd_result cmd_syncrestart(struct imap *imap)
{
        struct imap_loop *loop = imap->loop;
        struct span rest = { imap->s->in.data + loop->used, imap->s->in.len - loop->used };
        size_t n = span_index(rest, '\n');

        if (n == rest.len && n <= IMAP_LINE_MAX)
                return CMD_INPUT;
        loop->used += n < rest.len ? n + 1 : n;
        loop->skip_line = n == rest.len;
        if (span_trim((struct span){ rest.p, n }).len)
                return imap_bad(imap, "SYNCRESTART takes no argument");
        return imap_sync_command(imap, "RESTART");
}
