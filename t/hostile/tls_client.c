/*
 * tls_client - what no decent client does over TLS, for t/hostile/tls.
 *
 *   tls_client PORT reneg N       TLS 1.2; asks N times for another handshake, whatever the answer; then says NOOP
 *   tls_client PORT keyupdate N   TLS 1.3; N updates of keys, each asking for one in return; then NOOP
 *   tls_client PORT earlydata     TLS 1.3; a session, then its resumption with a command as early data; then NOOP
 *   tls_client PORT resume        TLS 1.3; a session, then its resumption; then NOOP
 *   tls_client PORT empty N       N records of no octets; then NOOP
 *   tls_client PORT split         NOOP, each octet a record of its own
 *   tls_client PORT wrong N       an established session, then N octets that are no record
 *
 * Prints what happened, a line each: "handshake …", "refused n", "closed …", "answer …", "early accepted|rejected", "resumed yes|no". Exits
 * with 0 unless the first handshake failed.
 */
#include <gnutls/gnutls.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define EARLY "early LOGIN nobody nothing\r\n"

static int port;
static gnutls_certificate_credentials_t credentials;

struct client {
        int fd;
        gnutls_session_t tls;
        char said[65536];
        size_t said_n;
        bool closed;
};

static int connected(void)
{
        struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((unsigned short)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        struct timeval patience = { .tv_sec = 5 };
        int fd = socket(AF_INET, SOCK_STREAM, 0);

        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
        if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0) {
                perror("connect");
                exit(2);
        }
        return fd;
}

static void prepare(struct client *c, const char *priority, const gnutls_datum_t *ticket)
{
        memset(c, 0, sizeof *c);
        c->fd = connected();
        gnutls_init(&c->tls, GNUTLS_CLIENT | GNUTLS_ENABLE_EARLY_START | GNUTLS_NO_SIGNAL);
        gnutls_priority_set_direct(c->tls, priority, NULL);
        gnutls_credentials_set(c->tls, GNUTLS_CRD_CERTIFICATE, credentials);
        gnutls_transport_set_int(c->tls, c->fd);
        if (ticket)
                gnutls_session_set_data(c->tls, ticket->data, ticket->size);
}

static int shake(struct client *c)
{
        int rc;

        do
                rc = gnutls_handshake(c->tls);
        while (rc == GNUTLS_E_WARNING_ALERT_RECEIVED || rc == GNUTLS_E_INTERRUPTED);
        return rc;
}

static void open_client(struct client *c, const char *priority, const gnutls_datum_t *ticket)
{
        int rc;

        prepare(c, priority, ticket);
        rc = shake(c);
        if (rc < 0) {
                printf("handshake failed: %s\n", gnutls_strerror(rc));
                exit(1);
        }
        printf("handshake %s\n", gnutls_protocol_get_name(gnutls_protocol_get_version(c->tls)));
}

/* Read until `wanted` was said, or nothing more comes. */
static bool hear(struct client *c, const char *wanted)
{
        while (!c->closed && (!wanted || !strstr(c->said, wanted))) {
                ssize_t n = gnutls_record_recv(c->tls, c->said + c->said_n, sizeof c->said - 1 - c->said_n);

                if (n == GNUTLS_E_INTERRUPTED || n == GNUTLS_E_WARNING_ALERT_RECEIVED)
                        continue;
                if (n == GNUTLS_E_AGAIN && poll(&(struct pollfd){ .fd = c->fd, .events = POLLIN }, 1, 5000) > 0)
                        continue;
                if (n <= 0) {
                        printf("closed %s\n", n == 0 ? "by the server" : gnutls_strerror((int)n));
                        c->closed = true;
                        break;
                }
                c->said_n += (size_t)n;
                c->said[c->said_n] = '\0';
                if (c->said_n == sizeof c->said - 1)
                        c->said_n = 0;
        }
        return wanted && strstr(c->said, wanted);
}

static void noop(struct client *c)
{
        const char *command = "last NOOP\r\n";

        if (!c->closed && gnutls_record_send(c->tls, command, strlen(command)) < 0) {
                printf("closed at a write\n");
                return;
        }
        if (hear(c, "last "))
                printf("answer %.60s\n", strstr(c->said, "last "));
}

static void reneg(long n)
{
        struct client c;
        long refused = 0, done = 0;

        open_client(&c, "NORMAL:-VERS-ALL:+VERS-TLS1.2:%UNSAFE_RENEGOTIATION", NULL);
        hear(&c, "* OK");
        for (long i = 0; i < n && !c.closed; i++) {
                int rc = gnutls_handshake(c.tls);

                if (rc == GNUTLS_E_SUCCESS)
                        done++;
                else if (rc == GNUTLS_E_WARNING_ALERT_RECEIVED && gnutls_alert_get(c.tls) == GNUTLS_A_NO_RENEGOTIATION)
                        refused++;
                else if (rc != GNUTLS_E_GOT_APPLICATION_DATA && gnutls_error_is_fatal(rc)) {
                        printf("closed by %s\n", gnutls_strerror(rc));
                        c.closed = true;
                }
        }
        printf("refused %ld\ndone %ld\n", refused, done);
        if (!c.closed)
                noop(&c);
}

static void keyupdate(long n)
{
        struct client c;
        long sent = 0;

        open_client(&c, "NORMAL:-VERS-ALL:+VERS-TLS1.3", NULL);
        hear(&c, "* OK");
        for (; sent < n; sent++)
                if (gnutls_session_key_update(c.tls, GNUTLS_KU_PEER) < 0)
                        break;
        printf("updates %ld\n", sent);
        noop(&c);
}

static gnutls_datum_t get_ticket(void)
{
        struct client c;
        gnutls_datum_t ticket = { NULL, 0 };

        open_client(&c, "NORMAL:-VERS-ALL:+VERS-TLS1.3", NULL);
        hear(&c, "* OK");
        noop(&c);                               /* the tickets have come by now */
        if (!(gnutls_session_get_flags(c.tls) & GNUTLS_SFLAGS_SESSION_TICKET) || gnutls_session_get_data2(c.tls, &ticket) < 0)
                printf("no ticket\n");
        gnutls_bye(c.tls, GNUTLS_SHUT_WR);
        gnutls_deinit(c.tls);
        close(c.fd);
        return ticket;
}

static void resume(bool early)
{
        gnutls_datum_t ticket = get_ticket();
        struct client c;
        ssize_t n;
        int rc;

        prepare(&c, "NORMAL:-VERS-ALL:+VERS-TLS1.3", &ticket);
        if (early) {
                n = gnutls_record_send_early_data(c.tls, EARLY, strlen(EARLY));
                printf("early written %zd of at most %zu\n", n, gnutls_record_get_max_early_data_size(c.tls));
        }
        rc = shake(&c);
        printf("handshake %s\n", rc < 0 ? gnutls_strerror(rc) : gnutls_protocol_get_name(gnutls_protocol_get_version(c.tls)));
        if (rc < 0)
                return;
        printf("resumed %s\n", gnutls_session_is_resumed(c.tls) ? "yes" : "no");
        if (early)
                printf("early %s\n", gnutls_session_get_flags(c.tls) & GNUTLS_SFLAGS_EARLY_DATA ? "accepted" : "rejected");
        noop(&c);
        printf("early command %s\n", strstr(c.said, "early ") ? "answered" : "not answered");
}

static void empty(long n)
{
        /* GnuTLS sends none: the record layer is fed an empty one by uncorking nothing. So: a record of one octet, and the rest of the
         * flood is of CRLFs, which are empty commands. */
        struct client c;
        long sent = 0;

        open_client(&c, "NORMAL", NULL);
        hear(&c, "* OK");
        for (; sent < n; sent++)
                if (gnutls_record_send(c.tls, "\r\n", 2) < 0)
                        break;
        printf("records %ld\n", sent);
        noop(&c);
}

static void split(void)
{
        const char *command = "last NOOP\r\n";
        struct client c;

        open_client(&c, "NORMAL", NULL);
        hear(&c, "* OK");
        for (size_t i = 0; i + 1 < strlen(command); i++)
                gnutls_record_send(c.tls, command + i, 1);
        gnutls_record_send(c.tls, "\n", 1);
        if (hear(&c, "last "))
                printf("answer %.60s\n", strstr(c.said, "last "));
}

static void wrong(long n)
{
        struct client c;
        char junk[4096];

        open_client(&c, "NORMAL", NULL);
        hear(&c, "* OK");
        for (size_t i = 0; i < sizeof junk; i++)
                junk[i] = (char)(i * 131 + 7);
        while (n > 0) {
                size_t some = n < (long)sizeof junk ? (size_t)n : sizeof junk;

                if (send(c.fd, junk, some, MSG_NOSIGNAL) < 0)
                        break;
                n -= (long)some;
        }
        hear(&c, NULL);
}

int main(int argc, char **argv)
{
        long n = argc > 3 ? atol(argv[3]) : 0;

        if (argc < 3) {
                fprintf(stderr, "usage: tls_client PORT WHAT [N]\n");
                return 64;
        }
        setvbuf(stdout, NULL, _IOLBF, 0);
        port = atoi(argv[1]);
        gnutls_certificate_allocate_credentials(&credentials);
        if (strcmp(argv[2], "reneg") == 0)
                reneg(n);
        else if (strcmp(argv[2], "keyupdate") == 0)
                keyupdate(n);
        else if (strcmp(argv[2], "earlydata") == 0)
                resume(true);
        else if (strcmp(argv[2], "resume") == 0)
                resume(false);
        else if (strcmp(argv[2], "empty") == 0)
                empty(n);
        else if (strcmp(argv[2], "split") == 0)
                split();
        else if (strcmp(argv[2], "wrong") == 0)
                wrong(n);
        else
                return 64;
        return 0;
}
