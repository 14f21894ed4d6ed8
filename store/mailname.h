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
bool namespace_has_domains(const struct namespace *ns);                 /* virtdomains */
bool namespace_is_alt(const struct namespace *ns);                      /* altnamespace: INBOX's children stand at the top */

/* Who names a mailbox. */
struct namer {
        const struct namespace *ns;
        const char *userid;                     /* canonical user id ("joe", "jo.e", "joe@example.org") */
        bool is_admin;                          /* admins see and write "user/joe/Sent" */
        bool utf8;                              /* names on the wire are UTF-8 (after ENABLE IMAP4rev2 or UTF8=ACCEPT) */
};

enum namespace_kind { NAMESPACE_PERSONAL, NAMESPACE_OTHER_USERS, NAMESPACE_SHARED };
/* The prefix of a namespace as this client writes it, with the separator at its end ("INBOX.", "Other Users/", ""), appended; for
 * NAMESPACE (RFC 9051 6.3.10) and LIST. false: this namespace is switched off, nothing is appended. */
bool namespace_prefix(const struct namer *who, enum namespace_kind kind, struct str *out);

/*
 * External → internal name, in the arena. ERR_BADNAME with a text for the client: forbidden characters, bad UTF-7/UTF-8, empty
 * components, too long, not a possible name. INBOX in any case is the user's own. Does not say whether it exists or is allowed.
 * UTF-8 names are brought into normalisation form C (RFC 9051 5.1); modified UTF-7 is kept as it is. A separator at the end
 * (CREATE "a/", RFC 9051 6.3.4) is the caller's to cut off: here it is an empty component.
 */
int mailname_internal(const struct namer *who, struct span external, struct arena *arena, const char **internal_r, struct err *err);
/* Internal → external, appended to out. */
void mailname_external(const struct namer *who, const char *internal, struct str *out);
/* May a mailbox of this name be created at all (cyrus-files.md 6)? ERR_BADNAME says why not. */
int mailname_check_new(const char *internal, bool by_admin, struct err *err);

/*
 * The order of internal names: octet by octet, '.' below everything else – so that what is below a mailbox follows it directly
 * and a tree is one range. <0, 0, >0 as strcmp().
 */
int mailname_compare(const char *a, const char *b);
bool mailname_is_user(const char *internal);                            /* user.joe or below */
bool mailname_is_inbox(const char *internal);                           /* exactly user.joe */
bool mailname_is_deleted(const char *internal, const char *deletedprefix);
/* The owner's user id ("jo.e@dom" from "dom!user.jo^e.Sent") in the arena, NULL for shared mailboxes. */
const char *mailname_owner(const char *internal, struct arena *arena);
bool mailname_owned_by(const char *internal, const char *userid);
/* Virtual domains: is the mailbox in the domain of this user id? Always, without virtual domains. */
bool mailname_in_domain_of(const char *internal, const char *userid);
/* Has the user id a domain, other than the default one? An admin's then is all that he administers. */
bool mailname_userid_has_domain(const char *userid);
/* "user.jo^e" for user id "jo.e"; with virtdomains "dom!user.joe" for "joe@dom", else "user.joe@dom". Whether there are virtual
 * domains is known since the first namespace_create(): one process serves one kind of user ids. */
const char *mailname_inbox_of(const char *userid, struct arena *arena);
/* The parent's name, NULL at the top (user.joe has none; nor "shared"). */
const char *mailname_parent(const char *internal, struct arena *arena);
bool mailname_is_below(const char *internal, const char *ancestor);     /* strictly below */

/*
 * Does one external name (in the client's form) match a LIST pattern with * and % (RFC 9051 6.3.9)? INBOX, alone or in front of a
 * separator, matches in any case. Time is at most octets of the name times octets of the pattern; a pattern with more than
 * MAILNAME_WILDCARDS_MAX wildcards (a run of them counts as one) or 4,096 octets matches nothing: refuse it before.
 */
#define MAILNAME_WILDCARDS_MAX 200
bool mailname_match(const char *external, struct span pattern, char sep);

#endif
