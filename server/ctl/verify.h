/* verify - cyrctl sync verify: differences as a table, and in a sentence how much was compared. */
#ifndef SERVER_CTL_VERIFY_H
#define SERVER_CTL_VERIFY_H

#include <jansson.h>

#include "server/ctl/client.h"

/* struct ctl_local (commands.h). */
int verify_run(struct ctl_client *client, json_t *args, struct err *err);

#endif
