/*
 * client_conn - a connection to a replica, below the protocol: a socket, TLS, DEFLATE, and time. One thread. Everything blocks; while it waits it
 * asks `stop` four times a second, and gives up `timeout_s` after the last octet in either direction. After -1 only client_conn_close() may follow:
 * ERR_CLOSED (the peer hung up), ERR_TIMEOUT, ERR_CANCELLED (stop), ERR_IO.
 */
#ifndef REPLICATION_CLIENT_CONN_H
#define REPLICATION_CLIENT_CONN_H

#include <stdbool.h>
#include <stdint.h>

#include "util/conf.h"
#include "util/err.h"
#include "util/file.h"
#include "util/str.h"

/* ---- where to: the forms of sync_host ---- */

struct client_target {
        char host[256];                         /* a name, an address, or a path */
        char port[64];                          /* a number or a service's name; "": not said */
        bool unix_socket;                       /* a path: nobody logs in */
        bool tls;                               /* "/tls": from the first octet on */
        bool noauth;                            /* "/noauth" */
};
/* "host", "host:port", "[v6]:port", each with "/tls" or "/noauth" behind; "/path". ERR_CONFIG. */
int client_target_parse(const char *text, struct client_target *target_r, struct err *err);

/* ---- the connection ---- */

struct client_conn;

struct client_conn_params {
        struct conf *conf;                      /* tls_client_cert, tls_client_key; borrowed for the call */
        unsigned timeout_s;
        bool (*stop)(void *ctx);                /* may be NULL */
        void (*traffic)(void *ctx, bool sent, const void *p, size_t len);       /* may be NULL */
        void *ctx;
};
/* `port` when the target names none. Within 30 s, all addresses tried. ERR_UNAVAILABLE, ERR_CONFIG, ERR_CANCELLED. */
int client_conn_open(const struct client_conn_params *params, const struct client_target *target, const char *port, struct client_conn **conn_r,
                     struct err *err);
void client_conn_close(struct client_conn **conn);

/* From the next octet on. What the peer sent too early, before the handshake, is an error. */
int client_conn_start_tls(struct client_conn *conn, struct conf *conf, struct err *err);
int client_conn_start_deflate(struct client_conn *conn, struct err *err);
unsigned client_conn_tls_bits(const struct client_conn *conn);          /* 0: no TLS */
/* "addr;port" of the two ends, as SASL wants them; "" for a Unix socket. */
const char *client_conn_local(const struct client_conn *conn);
const char *client_conn_peer(const struct client_conn *conn);

/* Write. Octets are gathered; client_conn_flush() sends them, and so does the next read. */
int client_conn_write(struct client_conn *conn, const void *p, size_t len, struct err *err);
/* Octets out of a file, read in bounded pieces. */
int client_conn_write_extent(struct client_conn *conn, const struct extent *extent, struct err *err);
int client_conn_flush(struct client_conn *conn, struct err *err);
/* What is written from now on is not shown in the traffic (passwords), but `instead` is. NULL: it is shown again. */
void client_conn_mute(struct client_conn *conn, const char *instead);

/* What has come: at least one octet, in *in_r, valid until the next call; client_conn_take() says how many of them are used up. */
int client_conn_read(struct client_conn *conn, struct span *in_r, struct err *err);
void client_conn_take(struct client_conn *conn, size_t n);
/* A line without its end, in place of what `line` held; of at most `max` octets (ERR_LIMIT). */
int client_conn_line(struct client_conn *conn, size_t max, struct str *line, struct err *err);

struct client_conn_counts { uint64_t sent, received, wire_sent, wire_received; };
void client_conn_counts(const struct client_conn *conn, struct client_conn_counts *counts_r);
/* clock_mono_ms() of the last octet that came. */
uint64_t client_conn_heard_ms(const struct client_conn *conn);
/* For the goodbye: wait at most so long from now on. */
void client_conn_hurry(struct client_conn *conn, unsigned timeout_s);

#endif
