/*
 * urlkey - the mailbox access keys of URLAUTH (RFC 4467 2.2): random octets for each user and mailbox, in urlkeys.db, and what is made
 * with them. A key never leaves this module.
 */
#ifndef STORE_URLKEY_H
#define STORE_URLKEY_H

#include <stdbool.h>
#include <stdint.h>

#include "util/err.h"
#include "util/str.h"

struct store;

#define URLKEY_TOKEN_BYTES 33                   /* which algorithm, then 256 bits */

/* The token of a rump URL (RFC 4467 5), with the key of this user for this mailbox, which is made, durably, when there is none. Blocks. */
int urlkey_token(struct store *store, const char *userid, const char *uniqueid, struct span rump, uint8_t token_r[URLKEY_TOKEN_BYTES],
                 struct err *err);
/*
 * Is this the token of that URL? uniqueid NULL: there is no such mailbox, or nothing of it is for this user; the answer is no, after the
 * same work. Takes the same time wherever the difference is. Blocks. 0, or -1 when the key could not be read.
 */
int urlkey_check(struct store *store, const char *userid, const char *uniqueid, struct span rump, const uint8_t *token, size_t token_n,
                 bool *valid_r, struct err *err);
/* A new key: all URLs made with the former one are worthless when this returns. Whoever watches the mailbox is told to look. Blocks. */
int urlkey_reset(struct store *store, const char *userid, const char *uniqueid, struct err *err);
/*
 * How other sessions hear of a reset (RFC 4467 7, RESETKEY): each counts in one of URLKEY_RESETS_N numbers, which is another one afterwards.
 * Which one it is for a key, urlkey_slot() says; rarely two keys have the same. Any thread.
 */
#define URLKEY_RESETS_N 1024
unsigned urlkey_slot(const char *userid, const char *uniqueid);
uint32_t urlkey_resets(struct store *store, unsigned slot);
/* No keys for this user: all his URLs are worthless. Blocks. */
int urlkey_remove_all(struct store *store, const char *userid, struct err *err);

#endif
