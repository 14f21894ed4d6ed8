/*
 * http - the small listener that metrics_listen names: /metrics for Prometheus, / for people; GET and HEAD, nothing else. Whoever can
 * connect may read: it listens on what the option says and nowhere by default. libmicrohttpd runs it, a thread for each address.
 */
#ifndef SERVER_HTTP_H
#define SERVER_HTTP_H

#include "util/conf.h"

/* At start, and again at HUP: listens where the option says now. An address that cannot be had is logged; mail matters more. The engine
 * runs. The main thread only. */
void http_listen(struct conf *conf);
/* Before the engine ends. Waits for answers that are being made. */
void http_close(void);

#endif
