/* samples - cyrctl metrics: what the daemon counts, as the text that Prometheus reads, or with --json a row for each sample: "name", "labels",
 * "value". */
#ifndef SERVER_CTL_SAMPLES_H
#define SERVER_CTL_SAMPLES_H

#include <jansson.h>

#include "server/ctl/client.h"

/* Returns 0, or -1 with err. */
int samples_run(struct ctl_client *client, json_t *args, struct err *err);

#endif
