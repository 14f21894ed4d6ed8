/*
 * acl - access control lists (RFC 4314) as Cyrus stores them: "identifier TAB rights TAB …", identifiers with '-' in front take
 * rights away. Pure functions on strings.
 */
#ifndef STORE_ACL_H
#define STORE_ACL_H

#include <stdbool.h>
#include <stdint.h>

#include "util/err.h"
#include "util/str.h"

enum acl_right {
        ACL_LOOKUP = 1u << 0, ACL_READ = 1u << 1, ACL_SEEN = 1u << 2, ACL_WRITE = 1u << 3, ACL_INSERT = 1u << 4, ACL_POST = 1u << 5,
        ACL_CREATE = 1u << 6 /* k */, ACL_DELETEMBOX = 1u << 7 /* x */, ACL_DELETEMSG = 1u << 8 /* t */, ACL_EXPUNGE = 1u << 9 /* e */,
        ACL_ADMIN = 1u << 10, ACL_ANNOTATE = 1u << 11 /* n */,
        ACL_USER0 = 1u << 16,                   /* the digits 0…9: << 0 … 9 */
        ACL_ALL = 0x0fff, ACL_FULL = 0x03ff0fff
};

/* Who asks. Borrowed strings. */
struct acl_identity {
        const char *userid;                     /* "" or "anonymous": nobody logged in */
        const char *const *groups;              /* NULL-terminated, without "group:"; may be NULL */
        bool is_admin;                          /* in `admins`: implicit l and a everywhere, but not r w i x */
        bool is_owner;                          /* of the mailbox in question: implicit_owner_rights */
        uint32_t owner_rights;                  /* implicit_owner_rights as bits */
};

/* Effective rights: those of the user, his groups and anyone, less the negative ones of the same, and then the implicit rights of
 * owner and admin, which nothing takes away. */
uint32_t acl_rights(const char *acl, const struct acl_identity *who);

/* The option implicit_owner_rights as bits. */
struct conf;
uint32_t acl_implicit_owner(struct conf *conf);

/* Parse "lrswipkxtecda…" – also legacy c and d on input as cyrus-files.md 7 says. ERR_SYNTAX names the letter. */
int acl_parse_rights(struct span text, uint32_t *rights_r, struct err *err);
/* Canonical letters with legacy c, d as Cyrus prints them ("lrswipkxtecda"). buf has room for ACL_TEXT_MAX. */
#define ACL_TEXT_MAX 40
const char *acl_format_rights(char buf[ACL_TEXT_MAX], uint32_t rights);

enum acl_mode { ACL_SET, ACL_ADD, ACL_REMOVE };
/*
 * The list with one identifier changed ('-' in front for negative rights), appended to `out`; an empty set of rights removes the
 * entry. ERR_SYNTAX: empty identifier, control characters; ERR_LIMIT: longer than the bounds below. `out` is then unchanged.
 */
#define ACL_IDENTIFIER_MAX 255                  /* octets */
#define ACL_LIST_MAX 65536                      /* octets of a whole list */
int acl_change(const char *acl, const char *identifier, enum acl_mode mode, uint32_t rights, struct str *out, struct err *err);
/* Iterate: *pos starts at acl. false at the end. */
bool acl_next(const char **pos, struct span *identifier_r, uint32_t *rights_r);

#endif
