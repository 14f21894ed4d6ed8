/*
 * mailname - mailbox names, internal and external.
 *
 * Internal names are Cyrus's: components separated by '.', a user's INBOX "user.joe", children "user.joe.Sent", a dot inside a
 * component is '^', non-ASCII in modified UTF-7, virtual domain in front "domain!user.joe". External names are what a client
 * writes: they depend on altnamespace, unixhierarchysep, userprefix, sharedprefix, on who asks (admins see internal ones), and for
 * IMAP4rev2/UTF8=ACCEPT clients are UTF-8.
 */
#ifndef STORE_MAILNAME_H
#define STORE_MAILNAME_H

#include <stdbool.h>

#include "util/arena.h"
#include "util/conf.h"
#include "util/err.h"
#include "util/str.h"

#define MAILNAME_MAX 490                        /* octets of an internal name */

struct namespace;                               /* the rules of one configuration, immutable, counted */
struct namespace *namespace_create(struct conf *conf);
struct namespace *namespace_ref(struct namespace *ns);
void namespace_unref(struct namespace **ns);
char namespace_separator(const struct namespace *ns);                   /* '.' or '/' */

/* Who names a mailbox. */
struct namer {
        const struct namespace *ns;
        const char *userid;                     /* canonical user id ("joe", "jo.e", "joe@example.org") */
        bool is_admin;                          /* admins see and write "user/joe/Sent" */
        bool utf8;                              /* names on the wire are UTF-8 (after ENABLE IMAP4rev2 or UTF8=ACCEPT) */
};

/*
 * External → internal name, in the arena. ERR_BADNAME with a text for the client: forbidden characters, bad UTF-7/UTF-8, empty
 * components, too long, not a possible name. INBOX in any case is the user's own. Does not say whether it exists or is allowed.
 */
int mailname_internal(const struct namer *who, struct span external, struct arena *arena, const char **internal_r, struct err *err);
/* Internal → external, appended to out. */
void mailname_external(const struct namer *who, const char *internal, struct str *out);
/* May a mailbox of this name be created at all (cyrus-files.md 6)? ERR_BADNAME says why not. */
int mailname_check_new(const char *internal, bool by_admin, struct err *err);

bool mailname_is_user(const char *internal);                            /* below some user. */
bool mailname_is_inbox(const char *internal);                           /* exactly user.joe */
bool mailname_is_deleted(const char *internal, const char *deletedprefix);
/* The owner's user id ("jo.e@dom" from "dom!user.jo^e.Sent") in the arena, NULL for shared mailboxes. */
const char *mailname_owner(const char *internal, struct arena *arena);
bool mailname_owned_by(const char *internal, const char *userid);
/* "user.jo^e" for user id "jo.e". */
const char *mailname_inbox_of(const char *userid, struct arena *arena);
/* The parent's name, NULL at the top (user.joe has none; nor "shared"). */
const char *mailname_parent(const char *internal, struct arena *arena);
bool mailname_is_below(const char *internal, const char *ancestor);     /* strictly below */

/* Does an internal-name pattern step match? The LIST engine is in mboxlist.h; this matches one external name (already in the
 * client's form) against pattern with * and %, separator sep. Linear-time bound: patterns have at most 200 wildcards. */
bool mailname_match(const char *external, struct span pattern, char sep);

#endif
