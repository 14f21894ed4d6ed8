/*
 * log - one event a line: a stable dotted name and key=value pairs, to syslog or to stderr.
 *   notice imap.login session=7f3a user=ann mech=PLAIN tls=1.3
 * Levels: error (an operator must act), warning (soon), notice (the audit trail), info, debug (for us). Never passwords, never
 * message text; what a client sent goes through log_quote(). Any thread may call; a lock around syslog() keeps lines whole.
 */
#ifndef UTIL_LOG_H
#define UTIL_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_NOTE, LOG_INFORM, LOG_DBG };

enum log_target { LOG_TO_STDERR, LOG_TO_SYSLOG, LOG_TO_BOTH };

/*
 * Where lines go. Called by main() before threads start, and again after configuration was read.
 *   ident     syslog ident, copied; on stderr it stands in front of the line
 *   facility  a syslog facility number (LOG_MAIL of syslog.h), -1 for the default
 *   level     the least important level still written
 */
void log_open(enum log_target target, const char *ident, int facility, enum log_level level);
void log_set_level(enum log_level level);
bool log_enabled(enum log_level level);

/*
 * Write one event.
 *   session  the session's id ("7f3a91"), adds session=…; NULL: none
 *   fmt      key=value pairs; values from outside through log_quote()
 * errno is kept.
 */
void log_event(enum log_level level, const char *session, const char *name, const char *fmt, ...)
        __attribute__((format(printf, 4, 5)));

/* The value of a key: as it is when plain, else in double quotes with escapes; control and non-ASCII octets as \xNN. Cut at 200
 * octets of input. The result is in `buf` (LOG_QUOTE_MAX octets), which is returned. */
#define LOG_QUOTE_MAX 832
const char *log_quote(char buf[LOG_QUOTE_MAX], const char *p, size_t len);
const char *log_quote_str(char buf[LOG_QUOTE_MAX], const char *s);      /* NULL is "-" */

/* Returns true for the first call in each `interval_s` for the same `state` word (start it at 0): "logged once". */
bool log_once(uint64_t *state, unsigned interval_s);

#endif
