/*
 * systemd - what it tells a service and wants to hear from one, without its library: sd_notify(3) messages (a datagram to $NOTIFY_SOCKET), the
 * watchdog, and sockets that were opened before us ($LISTEN_FDS, sd_listen_fds(3)). Any other program that speaks so will do. The main
 * thread's.
 */
#ifndef SERVER_SYSTEMD_H
#define SERVER_SYSTEMD_H

#include <stdbool.h>
#include <stdint.h>

#include "server/bind.h"
#include "server/masterconf.h"

/* First thing, before another descriptor is opened and before fork(): takes note of the environment and clears it, so that no child takes it
 * for its own. */
void systemd_init(void);

/* Send "READY=1\nSTATUS=…" or the like. Nobody asked to be told: nothing. Never fails as far as the caller is concerned. */
void systemd_notify(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
bool systemd_listens(void);                     /* is somebody told at all? */
/* How often to send WATCHDOG=1, in milliseconds: half of what is allowed; 0: nobody watches. */
uint64_t systemd_watchdog_ms(void);

/*
 * The sockets that were passed for a service: those with its name (FileDescriptorName=), else, of those whose name is no service's, those
 * that listen on its addresses. True: b_r has copies of them, listening already, and nothing else is to be bound for it. A socket may be
 * asked for again (HUP).
 */
bool systemd_sockets(const struct master_entry *e, struct bound *b_r);
/* Log a warning for each socket that no service has asked for. */
void systemd_report_unused(void);

#endif
