/*
 * imap_private - what the loop, the dispatcher and the replies of a session share; commands see imap.h.
 */
#ifndef SERVER_IMAP_IMAP_PRIVATE_H
#define SERVER_IMAP_IMAP_PRIVATE_H

#include "server/imap/cmds.h"
#include "server/imap/imap.h"
#include "util/must.h"

#define IMAP_LINE_MAX ((size_t)16 * 1024)       /* octets of a line within AUTHENTICATE or IDLE */
#define IMAP_STAGES_MAX 1000                    /* message literals of one command … */
#define IMAP_STAGE_FILES_MAX 100                /* … of which so many may be in files: each has a descriptor … */
#define IMAP_STAGED_MEMORY (8u << 20)           /* … and all others together so large */

enum imap_phase {
        PHASE_GREET,
        PHASE_GATHER,                           /* a command is coming, or awaited */
        PHASE_LITERAL,                          /* octets go into loop->stage */
        PHASE_EXECUTE,                          /* the handler is to be called, or waits */
        PHASE_LINE,                             /* the handler wants another line */
        PHASE_FINISH,                           /* news, then the tagged reply */
        PHASE_TLS_DRAINED, PHASE_TLS_DONE,      /* STARTTLS: everything was sent; the handshake is done */
        PHASE_LAYER_DRAINED,                    /* a SASL security layer begins */
        PHASE_DEFLATE_DRAINED,                  /* COMPRESS: everything was sent in clear */
        PHASE_END_DRAINED,                      /* UNAUTHENTICATE: everything was sent through the layers that end */
};

/* append.c: munge8bit: octets above 127 in the header of a message become X, as in Cyrus. */
struct append_munge {
        bool on;                                /* until the header ends */
        unsigned newlines;                      /* in a row, CRs apart */
};
/* A message begins: `on` if this is done for this client. */
void append_munge_begin(struct imap *imap, struct append_munge *munge);
/* The octets that come next in it. */
void append_munge(struct append_munge *munge, char *p, size_t len);

struct imap_loop {
        const void *status_entry;               /* the selected mailbox that session_set_status() knows of; only compared */
        enum imap_phase phase;
        enum imap_phase after;                  /* PHASE_FINISH goes on with */
        size_t used;                            /* of s->in; consumed when run() returns */
        struct str tagged;                      /* the reply kept back; cap 0 between commands */
        char outcome;                           /* its first letter: O, N, B */
        bool closing;                           /* after it, hang up */
        bool skip_line;                         /* a line within a command was too long: drop the rest of it */
        bool start_layer;                       /* AUTHENTICATE negotiated a layer */
        bool start_deflate;                     /* COMPRESS was accepted */
        bool end_layers;                        /* UNAUTHENTICATE: DEFLATE and a SASL layer end */
        bool discard_rest;                      /* AUTHENTICATE: what was pipelined behind it is thrown away */
        struct waiter *wait;                    /* what cmd.waiting is about */
        bool timer_wait, timer_fired;           /* the handler asked for imap_pause() */
        unsigned bye;                           /* WAKE_STOP, WAKE_TIMEOUT: as soon as nothing is waited for */
        uint64_t shutdown_checked_ms;

        /* APPEND, REPLACE */
        struct stage **stages;                  /* finished ones */
        uint32_t stages_n;
        struct stage *stage;                    /* the one being written */
        uint32_t stage_files;
        uint64_t staged_memory;
        uint64_t literal_left;
        bool literal8;
        struct append_munge munge;
        bool refused, refused_bad;              /* the answer to the command is settled: */
        char refused_code[40], refused_text[160];
};

/* imap.c: the session's struct; imap comes first, s->self points to it. */
struct imap_session {
        struct imap imap;
        struct imap_loop loop;
};

/* cmd.c: the row of a command; NULL: there is none. */
const struct imap_cmd *imap_cmd_find(struct span name);

#define RAW_TAG_MAX 64u                         /* of a command with CMD_RAW */
/* cmd.c: do the octets at the beginning of a command make one with CMD_RAW that this session may use? *head_r: octets of tag, blank and name. With
 * *undecided_r more have to come before that can be said. */
bool imap_command_is_raw(struct imap *imap, struct span in, size_t *head_r, bool *undecided_r);
/* sync.c: begin a command of csync, or go on with it. */
enum cmd_result imap_sync_command(struct imap *imap, const char *verb);
/* What this connection has staged is dropped. */
void imap_sync_close(struct imap *imap);

/* cmd.c: begin with a gathered command: parses tag and name, checks what its row says. The phase is PHASE_EXECUTE or PHASE_FINISH then. */
void imap_command_begin(struct imap *imap, struct span text);
/* Call the handler; sets the phase. */
enum cmd_result imap_command_run(struct imap *imap);
/* progress.c: tell how far the command is, when it is time to; in how many milliseconds that is (0: never). */
void imap_progress_tell(struct imap *imap);
uint32_t imap_progress_ms(const struct imap *imap);
/* However it ended: cleanup, stages, arena. */
void imap_command_end(struct imap *imap);

/* The handler is called again after `ms`; return what this returns. Only one wait at a time. */
enum cmd_result imap_pause(struct imap *imap, uint32_t ms);

/* capability.c: is this one for this session (now)? */
bool imap_suppressed(struct imap *imap, const char *capability);

/* The largest message that APPEND takes, in octets: maxmessagesize, or what the store can hold. */
uint64_t imap_append_limit(struct imap *imap);

/* The capabilities, appended. `asked`: see imap_put_capabilities(). */
void imap_capabilities(struct imap *imap, bool asked, struct str *out);

/* cmd_delete.c: has this mailbox a special use that specialuse_protect names? */
bool imap_special_use_protected(struct imap *imap, const struct mbentry *entry);

/* ---- login.c ---- */

/* UNAUTHENTICATE: forget who it was and what was enabled (RFC 8437 4.1). Nothing is selected any more. */
void imap_leave_authenticated(struct imap *imap);

bool imap_plaintext_ok(struct imap *imap);      /* LOGIN and PLAIN may be used on this connection */
/* tls_required, and there is no TLS yet: the reply was sent. */
bool imap_login_needs_tls(struct imap *imap);
const char *imap_mechanisms(struct imap *imap); /* as sasl_mechanisms() has them, in the command's arena */

/* One attempt to log in. In the command's arena, as cmd.state. */
struct imap_auth {
        struct imap *imap;
        enum { AUTH_STEP, AUTH_CHALLENGED, AUTH_LAST_WORD, AUTH_FAILED, AUTH_PAUSED, AUTH_AUTOCREATE } at;
        struct sasl_step step;
        bool plaintext;                         /* LOGIN */
        struct span user, password;             /* LOGIN */
        const char *mech;                       /* AUTHENTICATE */
        struct span initial;
        bool has_initial;
        struct str response;                    /* the client's, decoded */
        char **groups;                          /* found by the step */
        bool want_groups;
        struct err err;
};
/* Begin: makes cmd.state. */
struct imap_auth *imap_auth_begin(struct imap *imap);
/* LOGIN, where `user` and `password` are known to be right, which does not block. True: the step is done. */
bool imap_auth_known(struct imap *imap);
/* Start a step on a thread that may block; the first one makes imap->sasl. */
enum cmd_result imap_auth_offload(struct imap *imap, void (*step)(struct imap_auth *auth));
/* What comes after the step: a challenge, the pause and NO, or what a log-in needs and OK. */
enum cmd_result imap_auth_continue(struct imap *imap);

#endif
