/* ENABLE (RFC 9051 6.3.1, RFC 5161). Unknown extensions are ignored, what is already on is not told again. */
#include "server/imap/imap_private.h"

enum cmd_result cmd_enable(struct imap *imap)
{
        struct imap_parser *ip = &imap->cmd.args;
        bool condstore = false, rev2 = false;
        struct span word;

        do {
                if (imap_sp(ip) < 0 || imap_atom(ip, &word) < 0)
                        return imap_bad(imap, "%s", ip->err.text);
                condstore |= imap_word_is(word, "CONDSTORE");
                rev2 |= imap_word_is(word, "IMAP4rev2");
        } while (!imap_at_end(ip));
        condstore = condstore && !imap->condstore && !imap_suppressed(imap, "CONDSTORE");
        rev2 = rev2 && !imap->rev2 && !imap_suppressed(imap, "IMAP4rev2");
        imap_untagged(imap, "ENABLED%s%s", condstore ? " CONDSTORE" : "", rev2 ? " IMAP4rev2" : "");
        if (condstore)
                imap_enable_condstore(imap);
        imap->rev2 |= rev2;
        return imap_ok(imap, NULL, "Completed");
}
