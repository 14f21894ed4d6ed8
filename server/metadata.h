/*
 * metadata - what entries of METADATA (RFC 5464) there are and mean: the tables of RFC 5464, of Cyrus and of `annotation_definitions`;
 * values that are computed; those that are options of the mailbox, special uses or message files. For the IMAP commands and cyrctl;
 * who may see the mailbox at all is their business.
 */
#ifndef SERVER_METADATA_H
#define SERVER_METADATA_H

#include <stdbool.h>
#include <stdint.h>

#include "store/mailbox.h"
#include "store/mboxlist.h"
#include "util/arena.h"
#include "util/conf.h"
#include "util/err.h"

struct metadata {
        const char *name;                       /* "/shared/comment", lower case */
        struct span value;                      /* p NULL: there is none */
};

struct metadata_target {
        struct store *store;
        struct conf *conf;
        const char *userid;                     /* whose /private; "" nobody's */
        const struct mbentry *entry;            /* NULL: the server */
        struct mailbox *mbox;                   /* of the entry */
};

/* Of a client's name for an entry → "/shared/x", "/private/x", lower case, in the arena. ERR_SYNTAX with a text for the client. `wild`: one
 * wildcard, * or %, may stand at the end. */
int metadata_name(struct span given, bool wild, struct arena *arena, const char **name_r, struct err *err);

/* Everything that has a value and this user may see, in order of name, in the arena. For the server: reads the database and files. */
int metadata_list(const struct metadata_target *t, struct arena *arena, struct metadata **list_r, uint32_t *n_r, struct err *err);

enum metadata_depth { METADATA_DEPTH_0, METADATA_DEPTH_1, METADATA_DEPTH_ALL };
/* Does `name` match what was asked for? A wildcard at the end of `asked` stands for the rest: % without a further /. */
bool metadata_matches(const char *asked, const char *name, enum metadata_depth depth);
bool metadata_is_wild(const char *asked);

/*
 * May these be set, to these values? Nothing is changed. `set` has names as metadata_name() makes them.
 *   rights    ACL_… of the user on the mailbox; all for cyrctl
 *   is_admin  of the server
 * ERR_PERM, ERR_BADNAME (no such entry, or computed), ERR_SYNTAX (a value that it cannot have), ERR_LIMIT (too large: see ANNOT_VALUE_MAX),
 * ERR_EXISTS (a special use that another mailbox has, RFC 6154 4); texts are for the client.
 */
int metadata_check(const struct metadata_target *t, struct metadata *set, uint32_t n, uint32_t rights, bool is_admin, struct err *err);
/*
 * May this entry of a message (RFC 5257) be set to this value (p NULL: removed)? 1: yes. 0: only the file annotation_definitions can tell, which
 * is read with `blocking` alone. -1: ERR_BADNAME (no such entry), ERR_SYNTAX, ERR_PERM with texts for the client; ERR_IO.
 *   part    octets of `entry` that name a part of the message: 2 of "/1/comment"
 *   rights  ACL_… of the user; n and r are the caller's to ask for
 */
int metadata_message_check(struct conf *conf, const char *entry, size_t part, bool private, struct span value, uint32_t rights, bool blocking,
                           struct err *err);
/* Set what was checked. Blocks. ERR_LIMIT, ERR_QUOTA: too many; else the store's. */
int metadata_set(const struct metadata_target *t, const struct metadata *set, uint32_t n, struct err *err);


#endif
