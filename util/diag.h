/*
 * diag - what is wrong with a configuration file, and where: a list of messages with file, line and column.
 * A reader goes on after an error where that makes sense, so that `cyrd -t` names every error at once. Bounded: after DIAG_MAX
 * messages the rest is only counted. One thread at a time.
 */
#ifndef UTIL_DIAG_H
#define UTIL_DIAG_H

#include <stdbool.h>
#include <stddef.h>

#include "util/arena.h"
#include "util/err.h"
#include "util/str.h"

#define DIAG_MAX 200

enum diag_level { DIAG_ERROR, DIAG_WARNING, DIAG_NOTE };     /* note: nothing is wrong, but somebody may want to know */

struct diag_message {
        enum diag_level level;
        const char *file;
        unsigned line, column;                  /* from 1, the column in octets; line 0: the file as a whole; column 0: the line */
        const char *text;
};

struct diag {
        struct arena arena;
        struct diag_message *v;
        size_t n, cap;
        size_t errors, warnings, notes;         /* all that were found, kept or not */
};
#define DIAG_INIT { ARENA_INIT, NULL, 0, 0, 0, 0, 0 }

void diag_init(struct diag *d);
void diag_deinit(struct diag *d);
void diag_add(struct diag *d, enum diag_level level, const char *file, unsigned line, unsigned column, const char *fmt, ...)
        __attribute__((format(printf, 6, 7)));
/* An error: the file as a whole could not be read, `err` says why. The file's name, which every message begins with, is not said again. */
void diag_add_unread(struct diag *d, const char *file, const struct err *err);
/* "file:line:column: text" appended to `out`, without a line end. */
void diag_format(const struct diag_message *m, struct str *out);
/* The first error as an err (ERR_CONFIG). Returns -1, or 0 when there is no error. */
int diag_first_error(const struct diag *d, struct err *err);

#endif
