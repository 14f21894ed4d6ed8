/* trace - cyrctl trace follow: the telemetry of a user or a session, shown while it is written. */
#ifndef SERVER_CTL_TRACE_H
#define SERVER_CTL_TRACE_H

#include <jansson.h>

#include "server/ctl/client.h"

/*
 * `args` are those of trace.on: it is switched on, what comes from now on is shown, and switched off at the end if it was off before. Ends when
 * it is interrupted, when the session has ended, or when the time is over. Rows with --json: "session", "service", "text". Returns 0, or -1
 * with err.
 */
int trace_follow_run(struct ctl_client *client, json_t *args, struct err *err);

#endif
