/* copy - what COPY, MOVE and APPEND share: where to, what may be set there, what came of it. Between their files only. */
#ifndef SERVER_IMAP_COPY_H
#define SERVER_IMAP_COPY_H

#include "server/imap/seen.h"
#include "server/imap/selected.h"

struct copy_state {
        struct uidset uids;                     /* of the selected mailbox */
        const struct mbentry *entry;            /* reference: the target */
        uint32_t rights;                        /* the user's, there */
        struct imap_open open;
        struct mailbox *to;                     /* reference; NULL: not open yet */
        struct uidset copied;
        struct append_result result;
        struct seen_carry seen;                 /* \Seen that does not come with the messages */
        enum { COPY_OPEN, COPY_WRITTEN } phase;
        bool told;                              /* MOVE: COPYUID has been said */
};

/* The system flags that these rights do not let one set (RFC 4314 4). */
uint32_t copy_forbidden_flags(uint32_t rights);

/* Parse "set SP mailbox", find the mailbox. False: the tagged reply was sent. Sets imap->cmd.state and cleanup. */
bool copy_begin(struct imap *imap);
/* 1: st->to is open; 0: return CMD_WAIT; -1: the tagged reply was sent. */
int copy_open(struct imap *imap);
/* What the copies get: by the rights, and where \Seen is kept. */
int copy_prepare(struct imap *imap, struct copy_state *st, struct copy_mask *mask, struct err *err);
/* After each wait of COPY_WRITTEN: bring \Seen there. 1: return CMD_WAIT; 0: all is done; -1: err. */
int copy_finish_seen(struct imap *imap, struct copy_state *st, struct err *err);
/* "COPYUID uidvalidity from to" of what was copied, appended. False: it may not be told, as the mailbox may not be read (RFC 4315 3). */
bool copy_code(const struct copy_state *st, struct str *code);

#endif
