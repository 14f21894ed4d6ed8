/*
 * explain - cyrctl config check: every key of an imapd.conf and a cyrus.conf, what becomes of it here, and why; then what is wrong.
 *
 * Rows have a "kind": "option" (a line of imapd.conf: file, line, option, value, state, why), "entry" (a key of an entry of cyrus.conf:
 * file, line, section, entry, option, value, state, why), "default" (an option that is not set and whose default is not Cyrus's), "problem"
 * (level, file, line, column, text), and last "summary", which counts. "state" is one of
 *   honoured     does what it says
 *   translated   does so under another name, or as what it amounts to in one process
 *   later        understood; what it controls is not built yet
 *   ignored      understood; it has no meaning here
 *   unknown      nobody knows it: a slip of the pen, most likely
 *   wrong        its value is out of its grammar
 * Values of passwords and secrets are not shown.
 */
#ifndef SERVER_CTL_EXPLAIN_H
#define SERVER_CTL_EXPLAIN_H

#include <jansson.h>

#include "server/ctl/client.h"

/*
 * `args`: "imapd.conf" (missing: client->config, else the usual one), "cyrus.conf" (missing: the usual one), "quiet": without what is
 * simply honoured. Needs no daemon and no store. Returns 0, or -1 with ERR_CONFIG when there is an error or a warning.
 */
int explain_run(struct ctl_client *client, json_t *args, struct err *err);

/* Why an option of the table is as it is; never empty. For the tests: every option has its reason. */
const char *explain_option(const struct conf_option *o);

#endif
