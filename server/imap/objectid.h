/*
 * objectid - OBJECTID (RFC 8474). MAILBOXID is the mailbox's unique id. EMAILID is "M" and 24 hex digits of the message's GUID, as Cyrus makes
 * it: the same octets have the same id wherever they are. THREADID is "T" and 16 hex digits of the thread's number, which was taken from the
 * first of the References (else In-Reply-To, else Message-ID) when the message came: it needs no other message, and never changes.
 */
#ifndef SERVER_IMAP_OBJECTID_H
#define SERVER_IMAP_OBJECTID_H

#include "store/mailbox.h"

#define OBJECTID_SIZE 32                        /* octets, with the NUL */
void objectid_email(const struct msg *m, char out[OBJECTID_SIZE]);
/* "" when the message has none (RFC 8474 5.2: NIL). */
void objectid_thread(const struct msg *m, char out[OBJECTID_SIZE]);

#endif
