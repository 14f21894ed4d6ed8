/* transfer - cyrctl import and export: between mail files (mailfile.h) and the store, through operations on messages. */
#ifndef SERVER_CTL_TRANSFER_H
#define SERVER_CTL_TRANSFER_H

#include <jansson.h>

#include "server/ctl/client.h"

/* Both take over `args` ("mailbox", "path"; import: "dry"; export: "mbox"), hand rows to client->row and progress to client->progress, and
 * return 0, or -1 with err (ERR_CORRUPT: some messages failed, the others went over). */
int transfer_import(struct ctl_client *client, json_t *args, struct err *err);
int transfer_export(struct ctl_client *client, json_t *args, struct err *err);

#endif
