/* STARTTLS (RFC 9051 6.2.1). What was pipelined behind it is thrown away by the loop. */
#include "server/imap/imap_private.h"

enum cmd_result cmd_starttls(struct imap *imap)
{
        if (imap_end(&imap->cmd.args) < 0)
                return imap_bad(imap, "%s", imap->cmd.args.err.text);
        if (stream_is_tls(imap->s->stream))
                return imap_bad(imap, "TLS is already active");
        if (!service_has_tls(imap->s->service))
                return imap_no(imap, "CANNOT", "TLS is not available");
        imap_ok(imap, NULL, "Begin TLS negotiation now");
        return CMD_TLS;
}
