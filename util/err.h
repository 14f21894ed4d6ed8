/*
 * err - what went wrong: a code that decides what a client hears, and a text for the operator's log.
 * A function that can fail returns int, 0 or -1, and fills the struct err of its caller where the failure is
 * understood. The text may hold paths and errno; a client is never shown it unless the code says that the text was
 * written for the client (ERR_SYNTAX, ERR_BADNAME, ERR_LIMIT, ERR_UNSUPPORTED: these name only what the client sent).
 */
#ifndef UTIL_ERR_H
#define UTIL_ERR_H

#include <stdbool.h>
#include <stddef.h>

enum err_code {
        ERR_NONE = 0,
        ERR_SYNTAX,             /* what was received is out of grammar */
        ERR_LIMIT,              /* a configured or built-in bound was passed */
        ERR_CORRUPT,            /* bytes on disk are not what was written */
        ERR_IO,                 /* the operating system failed us; nothing was changed */
        ERR_NOSPACE,            /* ENOSPC, EDQUOT */
        ERR_NOMEM,              /* a large allocation failed */
        ERR_PERM,               /* not allowed: ACL or role */
        ERR_READONLY,           /* the mailbox, partition or server takes no changes now */
        ERR_NOTFOUND,           /* no such mailbox, message, user, key */
        ERR_EXISTS,
        ERR_BADNAME,            /* a name out of rule */
        ERR_BUSY,               /* in use, locked: try again later */
        ERR_QUOTA,
        ERR_UNAVAILABLE,        /* a service we depend on does not answer: try again later */
        ERR_UNSUPPORTED,        /* understood, but not built or not switched on */
        ERR_CHARSET,            /* RFC 3501 BADCHARSET */
        ERR_AUTH,               /* wrong credentials */
        ERR_CLOSED,             /* the peer is gone */
        ERR_TIMEOUT,
        ERR_CANCELLED,          /* shut down or withdrawn before it was done */
        ERR_FOREIGN,            /* the files belong to another program (a real Cyrus's spool) */
        ERR_CONFIG,             /* a configuration file says something impossible */
        ERR_HASCHILDREN,        /* the mailbox has inferiors */
        ERR_FENCED,             /* clients may not change this store: it is a replica, or was replaced as the master (store.h); text for the client */
        ERR_INTERNAL,           /* a refused request that should not have been made */
        ERR_CODE_MAX
};

#define ERR_TEXT_MAX 400

struct err {
        enum err_code code;
        char text[ERR_TEXT_MAX];                /* NUL-terminated, cut when longer */
};
#define ERR_INIT { ERR_NONE, "" }

/* Fill `err` (which may be NULL). Always returns -1, so that `return err_set(...)` reads well. */
int err_set(struct err *err, enum err_code code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* As err_set() with ": strerror(errno_value)" added, and the code chosen by errno: ENOSPC, EDQUOT → ERR_NOSPACE; ENOENT →
 * ERR_NOTFOUND; EROFS → ERR_READONLY; EEXIST → ERR_EXISTS; ENOMEM → ERR_NOMEM; all others ERR_IO. */
int err_errno(struct err *err, int errno_value, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Put "fmt: " in front of the text that is there. Always returns -1. */
int err_prefix(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

void err_clear(struct err *err);
void err_copy(struct err *to, const struct err *from);

/* A stable lower-case word for logs and JSON: "syntax", "io", … */
const char *err_code_name(enum err_code code);

#endif
