/* server_session - a connection of the service csync, seen by server.c and server_auth.c only. */
#ifndef REPLICATION_SERVER_SESSION_H
#define REPLICATION_SERVER_SESSION_H

#include "replication/server_private.h"
#include "server/sasl.h"
#include "server/telemetry.h"

#define CSYNC_LINE_MAX 16384u                   /* a command that is not the peer's; AUTHENTICATE's responses */
#define CSYNC_BAD_MAX 100u                      /* refused lines in a row before we hang up … */
#define CSYNC_BAD_MAX_NOT_AUTH 10u              /* … and before log-in */
#define CSYNC_GO ((enum step)-1)                /* nothing to wait for: go on */

struct csync {
        struct session *s;
        struct conf *conf;                      /* reference */
        enum {
                CSYNC_COMMAND,                  /* between commands, or one is coming */
                CSYNC_PEER,                     /* GET, APPLY, RESTORE: the peer has it */
                CSYNC_OFFLOADED,                /* a step of AUTHENTICATE runs on another thread */
                CSYNC_AUTH_LINE,                /* a response is awaited */
                CSYNC_AUTH_PAUSE,               /* a failure is answered after failedloginpause */
                CSYNC_TLS_DRAIN, CSYNC_TLS_HANDSHAKE, CSYNC_DEFLATE_DRAIN, CSYNC_LAYER_DRAIN,
                CSYNC_CLOSING,
        } phase;
        unsigned told;                          /* WAKE_… that were heard and not yet acted on */
        bool welcomed, skipping;                /* skipping: the rest of a line that was too long */
        bool authenticated, is_admin;
        unsigned bad;
        char *user;                             /* NULL: nobody said who he is */
        struct sync_peer *peer;                 /* NULL: no admin */
        struct telemetry_slot telemetry;

        struct offload job;
        struct sasl_conn *sasl;
        struct sasl_step step;
        bool step_valid, auth_started, auth_has_input;
        char auth_mech[24];
        struct str auth_input;
};

void csync_reply(struct csync *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));  /* one line, CRLF added */
void csync_logged_in(struct csync *c, const char *user, bool is_admin);

/* server_auth.c */
const char *csync_mechanisms(struct csync *c);
void csync_authenticate(struct csync *c, struct span args);
void csync_auth_response(struct csync *c, struct span line);
void csync_auth_step_done(struct csync *c);
void csync_auth_deinit(struct csync *c);

#endif
