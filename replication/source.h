/*
 * source - this store as what is replicated: puts the log for replicas (sync_log.h) and rolling replication (rolling.h) into the daemon and the
 * programs, with cyrctl's operations sync.…, and metrics. For server/main.c and server/ctl/main.c only.
 */
#ifndef REPLICATION_SOURCE_H
#define REPLICATION_SOURCE_H

#include "server/control/ops.h"
#include "store/store.h"
#include "util/conf.h"
#include "util/err.h"

/* Once, before threads start: operations, metrics, and that programs that open the store themselves log what they change. */
void source_register(void);

/* The daemon has opened its store: the log is written from now on. ERR_IO: it cannot be, so what changes would not be known. */
int source_open(struct conf_live *live, struct store *store, struct err *err);
void source_reload(struct conf *conf);
/* sync_client -r or -R in cyrus.conf's START or DAEMON. 1: these words say something else, run the program; 0: begun; -1 with err. */
int source_job(int argc, char *const *argv, struct err *err);
/* Sessions are about to be ended: those that wait for a synchronous replica do so for a second more. */
void source_stopping(void);
/* The end: no channel any more; the store is about to be closed; it was (false: it is left open, and the stop is no clean one). */
void source_stop(void);
void source_close(bool store_closed);
/* Until all that was changed is replicated. ERR_TIMEOUT. Blocks: for a hand-over (role.h). */
int source_drain(void *unused, struct err *err);

int cyr_synclog_main(int argc, char **argv);            /* synclog.c: the program */

/* The operations, for tests. */
const struct ctl_op *source_ops(size_t *n_r);

#endif
