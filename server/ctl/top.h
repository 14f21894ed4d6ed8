/* top - cyrctl top: who does how much just now, again and again. See top.c for what is shown. */
#ifndef SERVER_CTL_TOP_H
#define SERVER_CTL_TOP_H

#include <jansson.h>

#include "server/ctl/client.h"

/*
 * `args`, all strings but the switch: "count" (pictures, 0: until it is ended), "interval" (seconds between them, 0.1 to 3600), "lines"
 * (sessions or users in a picture), "sort" (rate in out idle age user), "users" (a line for each user instead of each session).
 * On a terminal a screen that is refreshed until q; elsewhere one picture, or `count`. Returns 0, or -1 with err.
 */
int top_run(struct ctl_client *client, json_t *args, struct err *err);

#endif
