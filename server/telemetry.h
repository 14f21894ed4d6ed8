/*
 * telemetry - a record of what sessions say and hear, as Cyrus keeps it.
 *
 * Of a user: while `<configdirectory>/log/<user>/` exists and may be written to, each of that user's sessions is recorded there in a file
 * of its own, `<service>-<session id>`. A file `.until` in it ends that: at its modification time (cyrctl trace on -t).
 * Of one session (engine_trace(), cyrctl trace on): in `<configdirectory>/log/.sessions/`, under the same name.
 *
 * The file begins with "---------- <user> <date>" and an empty line; then come the octets in both directions, each change of direction
 * and each new second marked by `<` Unix-time `<` (from the client) or `>` Unix-time `>` (to it). What passes before log-in is not
 * recorded, so no password is. A file that cannot be written, or has grown to telemetry_max_size, ends its session's telemetry, not
 * the session.
 *
 * Called by the worker that runs the session: no lock.
 */
#ifndef SERVER_TELEMETRY_H
#define SERVER_TELEMETRY_H

#include "server/session.h"
#include "util/conf.h"

#define TELEMETRY_UNTIL ".until"
#define TELEMETRY_SESSIONS ".sessions"          /* no user's name begins with a dot, as far as telemetry goes */

struct telemetry;                               /* an open file and the tap of a session's stream */
struct telemetry_slot {                         /* in a protocol's struct, zeroed */
        struct telemetry *file;                 /* NULL: nothing is recorded */
        uint64_t looked_ms;                     /* clock_mono_ms() */
};

/* At log-in, and whenever a command has been done or WAKE_TOUCH came: begin, go on or end, as is wanted now. Looks at most once a second
 * unless `now`. Does nothing before log-in.
 *   userid  NULL or "": a session without one (LMTP on a Unix socket): only its own trace counts */
void telemetry_look(struct session *s, struct telemetry_slot *slot, const struct conf *conf, const char *userid, bool now);
/* Takes the tap off and closes the file. */
void telemetry_stop(struct session *s, struct telemetry_slot *slot);

/* Whether a user id may name a directory: none that leaves log/. */
bool telemetry_user_ok(const char *userid);
/* The directory of a user's telemetry (NULL: of single sessions) into buf. False: no such path. */
bool telemetry_directory(const struct conf *conf, const char *userid, char *buf, size_t size);
/* Is a user's telemetry on? *until_r: Unix seconds, INT64_MAX: no end. */
bool telemetry_user_on(const char *directory, int64_t *until_r);

#endif
