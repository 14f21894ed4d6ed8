/* status - STATUS's items, for STATUS and LIST … RETURN (STATUS (…)) (RFC 9051 6.3.11, RFC 5819). */
#ifndef SERVER_IMAP_STATUS_H
#define SERVER_IMAP_STATUS_H

#include "server/imap/imap.h"

/* "(" item … ")" → bits, 0: failed, parser's err. */
unsigned imap_status_parse(struct imap_parser *ip);
/* Asking for HIGHESTMODSEQ enables CONDSTORE (RFC 7162 3.1). */
void imap_status_asked(struct imap *imap, unsigned items);
/* The untagged STATUS line. */
void imap_status_put(struct imap *imap, const char *internal, struct mailbox *mbox, unsigned items);

#endif
