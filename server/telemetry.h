/*
 * telemetry - a record of what a user's sessions say and hear, as Cyrus keeps it: while `<configdirectory>/log/<user>/` exists, each
 * of that user's sessions is written there to a file of its own, `<service>-<session id>`.
 *
 * The file begins with "---------- <user> <date>" and an empty line; then come the octets in both directions, each change of direction
 * and each new second marked by `<` Unix-time `<` (from the client) or `>` Unix-time `>` (to it). What passes before log-in is not
 * recorded, so no password is. A file that cannot be written ends its session's telemetry, not the session.
 */
#ifndef SERVER_TELEMETRY_H
#define SERVER_TELEMETRY_H

#include "server/session.h"
#include "util/conf.h"

struct telemetry;
/* Begin when the user's directory is there, else NULL. The stream's tap is set; the caller ends it with telemetry_stop(). */
struct telemetry *telemetry_start(struct session *s, const struct conf *conf, const char *userid);
/* Is the user's directory still there? */
bool telemetry_wanted(const struct conf *conf, const char *userid);
/* Takes the tap off and closes the file. NULL is fine. */
void telemetry_stop(struct session *s, struct telemetry **t);

#endif
