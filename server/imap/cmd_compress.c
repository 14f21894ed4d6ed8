/* COMPRESS (RFC 4978): DEFLATE, above TLS and security layers. The loop switches it on when the reply has been sent. */
#include "server/imap/imap_private.h"

enum cmd_result cmd_compress(struct imap *imap)
{
        struct imap_parser *ip = &imap->cmd.args;
        struct span algorithm;

        if (imap_sp(ip) < 0 || imap_atom(ip, &algorithm) < 0 || imap_end(ip) < 0)
                return imap_bad(imap, "%s", ip->err.text);
        if (!imap_word_is(algorithm, "DEFLATE"))
                return imap_bad(imap, "Unknown compression mechanism");
        if (stream_is_deflated(imap->s->stream))
                return imap_bad(imap, "[COMPRESSIONACTIVE] DEFLATE active via COMPRESS");       /* BAD: RFC 4978 3 */
        imap->loop->start_deflate = true;
        return imap_ok(imap, NULL, "DEFLATE active");
}
