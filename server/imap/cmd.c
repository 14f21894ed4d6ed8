/*
 * cmd - the table of commands, and the dispatcher that enforces what a row says.
 */
#include <stdlib.h>

#include "server/imap/audit.h"
#include "server/imap/imap_private.h"
#include "server/imap/list.h"
#include "server/imap/metadata.h"
#include "server/imap/notify.h"
#include "server/imap/selected.h"
#include "server/imap/sync.h"
#include "server/imap/url_part.h"
#include "util/array.h"
#include "util/clock.h"
#include "util/log.h"

/* What a row needs; rights by their letters. */
enum {
        L = ACL_LOOKUP, R = ACL_READ, I = ACL_INSERT, K = ACL_CREATE, X = ACL_DELETEMBOX, T = ACL_DELETEMSG, E = ACL_EXPUNGE, A = ACL_ADMIN,
        W = ACL_WRITE, N = ACL_ANNOTATE,
};
#define NONE            { 0 }
#define NAMED(rights)   { .named = (rights) }
#define SELECTED(rights) { .selected = (rights) }
#define TARGET(rights)  { .selected = (rights), .named = I, .above = K }        /* messages go into the named one */
#define METADATA        { .named = L, .any = METADATA_RIGHTS }

/* Sorted by name, for bsearch(). */
const struct imap_cmd imap_cmds[] = {
        { "APPEND",       cmd_append,        S_AUTH,     TARGET(0),             CMD_POLL | CMD_LITERAL_STREAM | CMD_TRYCREATE | CMD_CHANGES }, /* RFC 9051 6.3.12, 4315 */
        { "AUTHENTICATE", cmd_authenticate,  S_NOT_AUTH, NONE,                  CMD_NO_LITERALS | CMD_SLOW_ON_FAIL }, /* RFC 9051 6.2.2, 4959 */
        { "CANCELUPDATE", cmd_cancelupdate,  S_SELECTED, NONE,                  CMD_POLL | CMD_NO_LITERALS },         /* RFC 5267 4.3.5 */
        { "CAPABILITY",   cmd_capability,    S_ANY,      NONE,                  CMD_POLL | CMD_NO_LITERALS },         /* RFC 9051 6.1.1 */
        { "CHECK",        cmd_check,         S_SELECTED, NONE,                  CMD_POLL | CMD_NO_LITERALS },         /* RFC 3501 6.4.1 */
        { "CLOSE",        cmd_close,         S_SELECTED, NONE,                  CMD_NO_LITERALS | CMD_CHANGES },                    /* RFC 9051 6.4.1 */
        { "COMPRESS",     cmd_compress,      S_AUTH,     NONE,                  CMD_POLL | CMD_NO_LITERALS },         /* RFC 4978 */
        { "COPY",         cmd_copy,          S_SELECTED, TARGET(R),             CMD_POLL | CMD_SEQNO | CMD_UID_FORM | CMD_TRYCREATE | CMD_CHANGES }, /* RFC 9051 6.4.7, 4315 */
        { "CREATE",       cmd_create,        S_AUTH,     { .above = K },        CMD_POLL | CMD_LOGGED | CMD_CHANGES },              /* RFC 9051 6.3.4, 6154 3 */
        { "DELETE",       cmd_delete,        S_AUTH,     NAMED(X),              CMD_POLL | CMD_LOGGED | CMD_CHANGES },              /* RFC 9051 6.3.5 */
        { "DELETEACL",    cmd_deleteacl,     S_AUTH,     NAMED(A),              CMD_POLL | CMD_LOGGED | CMD_CHANGES },              /* RFC 4314 3.2 */
        { "ENABLE",       cmd_enable,        S_AUTH,     NONE,                  CMD_POLL },                           /* RFC 9051 6.3.1, 5161 */
        { "ESEARCH",      cmd_esearch,       S_AUTH,     NAMED(R),              CMD_POLL | CMD_UID_FORM },            /* RFC 7377; its examples have "UID ESEARCH" */
        { "EXAMINE",      cmd_examine,       S_AUTH,     NAMED(R),              0 },                                  /* RFC 9051 6.3.3 */
        { "EXPUNGE",      cmd_expunge,       S_SELECTED, SELECTED(R | E),       CMD_POLL | CMD_UID_FORM | CMD_WRITES | CMD_CHANGES }, /* RFC 9051 6.4.3, 6.4.9 */
        { "FETCH",        cmd_fetch,         S_SELECTED, SELECTED(R),           CMD_POLL | CMD_SEQNO | CMD_UID_FORM }, /* RFC 9051 6.4.5, 7162 */
        { "GENURLAUTH",   cmd_genurlauth,    S_AUTH,     NAMED(URL_RIGHTS),     CMD_POLL },                           /* RFC 4467 */
        { "GETACL",       cmd_getacl,        S_AUTH,     NAMED(A),              CMD_POLL },                           /* RFC 4314 3.3 */
        { "GETANNOTATION", cmd_getannotation, S_AUTH,    METADATA,              CMD_POLL | CMD_ADMIN_EXEMPT },        /* Cyrus's, old */
        { "GETMETADATA",  cmd_getmetadata,   S_AUTH,     METADATA,              CMD_POLL | CMD_ADMIN_EXEMPT },        /* RFC 5464 4.2 */
        { "GETQUOTA",     cmd_getquota,      S_AUTH,     NONE,                  CMD_POLL },                           /* RFC 9208 4.1.1 */
        { "GETQUOTAROOT", cmd_getquotaroot,  S_AUTH,     { .named = R, .above = K }, CMD_POLL | CMD_ADMIN_EXEMPT },   /* RFC 9208 4.1.2 */
        { "ID",           cmd_id,            S_ANY,      NONE,                  CMD_POLL },                           /* RFC 2971 */
        { "IDLE",         cmd_idle,          S_AUTH,     NONE,                  CMD_POLL | CMD_NO_LITERALS },         /* RFC 9051 6.3.13, 2177 */
        { "LIST",         cmd_list,          S_AUTH,     NAMED(LIST_RIGHTS),     CMD_POLL },                           /* RFC 9051 6.3.9, 5258, 5819, 6154 */
        { "LISTRIGHTS",   cmd_listrights,    S_AUTH,     NAMED(A),              CMD_POLL },                           /* RFC 4314 3.4 */
        { "LOGIN",        cmd_login,         S_NOT_AUTH, NONE,                  CMD_SLOW_ON_FAIL },                   /* RFC 9051 6.2.3 */
        { "LOGOUT",       cmd_logout,        S_ANY,      NONE,                  CMD_NO_LITERALS },                    /* RFC 9051 6.1.3 */
        { "LSUB",         cmd_lsub,          S_AUTH,     NAMED(LIST_RIGHTS),     CMD_POLL },                           /* RFC 3501 6.3.9 */
        { "MOVE",         cmd_move,          S_SELECTED, TARGET(R | T | E),     CMD_POLL | CMD_UID_FORM | CMD_WRITES | CMD_TRYCREATE | CMD_CHANGES }, /* RFC 9051 6.4.8, 6851 */
        { "MYRIGHTS",     cmd_myrights,      S_AUTH,     { .any = L | R | I | K | X | A }, CMD_POLL },                /* RFC 4314 3.5 */
        { "NAMESPACE",    cmd_namespace,     S_AUTH,     NONE,                  CMD_POLL | CMD_NO_LITERALS },         /* RFC 9051 6.3.10, 2342 */
        { "NOOP",         cmd_noop,          S_ANY,      NONE,                  CMD_POLL | CMD_NO_LITERALS },         /* RFC 9051 6.1.2 */
        { "NOTIFY",       cmd_notify,        S_AUTH,     NAMED(NOTIFY_RIGHTS),  CMD_POLL },                           /* RFC 5465 */
        { "RENAME",       cmd_rename,        S_AUTH,     { .named = X, .above = K }, CMD_POLL | CMD_LOGGED | CMD_ADMIN_EXEMPT | CMD_CHANGES }, /* RFC 9051 6.3.6 */
        { "REPLACE",      cmd_replace,       S_SELECTED, TARGET(R | T | E),     CMD_POLL | CMD_UID_FORM | CMD_WRITES | CMD_LITERAL_STREAM | CMD_TRYCREATE | CMD_CHANGES }, /* RFC 8508 */
        { "RESETKEY",     cmd_resetkey,      S_AUTH,     NAMED(R),              CMD_POLL },                           /* RFC 4467 */
        { "RLIST",        cmd_rlist,         S_AUTH,     NAMED(LIST_RIGHTS),     CMD_POLL },                           /* RFC 2193 5.1 */
        { "RLSUB",        cmd_rlsub,         S_AUTH,     NAMED(LIST_RIGHTS),     CMD_POLL },                           /* RFC 2193 5.2 */
        { "SEARCH",       cmd_search,        S_SELECTED, SELECTED(R),           CMD_POLL | CMD_SEQNO | CMD_UID_FORM }, /* RFC 9051 6.4.4, 4731, 5182 */
        { "SELECT",       cmd_select,        S_AUTH,     NAMED(R),              0 },                                  /* RFC 9051 6.3.2 */
        { "SETACL",       cmd_setacl,        S_AUTH,     NAMED(A),              CMD_POLL | CMD_LOGGED | CMD_CHANGES },              /* RFC 4314 3.1 */
        { "SETANNOTATION", cmd_setannotation, S_AUTH,    METADATA,              CMD_POLL | CMD_LOGGED | CMD_ADMIN_EXEMPT | CMD_CHANGES }, /* Cyrus's, old */
        { "SETMETADATA",  cmd_setmetadata,   S_AUTH,     METADATA,              CMD_POLL | CMD_LOGGED | CMD_ADMIN_EXEMPT | CMD_CHANGES }, /* RFC 5464 4.3 */
        { "SETQUOTA",     cmd_setquota,      S_AUTH,     NONE,                  CMD_POLL | CMD_ADMIN | CMD_LOGGED | CMD_CHANGES },  /* RFC 9208 4.1.3 */
        { "SORT",         cmd_sort,          S_SELECTED, SELECTED(R),           CMD_POLL | CMD_SEQNO | CMD_UID_FORM }, /* RFC 5256, 5267 3, 5957 */
        { "STARTTLS",     cmd_starttls,      S_NOT_AUTH, NONE,                  CMD_NO_LITERALS },                    /* RFC 9051 6.2.1 */
        { "STATUS",       cmd_status,        S_AUTH,     NAMED(R),              CMD_POLL },                           /* RFC 9051 6.3.11, 8438, 7162 3.1.7 */
        { "STORE",        cmd_store,         S_SELECTED, SELECTED(R),           CMD_POLL | CMD_SEQNO | CMD_UID_FORM | CMD_WRITES | CMD_CHANGES }, /* RFC 9051 6.4.6, 5257 */
        { "SUBSCRIBE",    cmd_subscribe,     S_AUTH,     NAMED(L),              CMD_POLL | CMD_CHANGES },                           /* RFC 9051 6.3.7 */
        { "SYNCAPPLY",    cmd_syncapply,     S_AUTH,     NONE,                  CMD_ADMIN_ONLY | CMD_RAW },           /* csync in IMAP, Cyrus's: sync.h */
        { "SYNCGET",      cmd_syncget,       S_AUTH,     NONE,                  CMD_ADMIN_ONLY | CMD_RAW },
        { "SYNCRESTART",  cmd_syncrestart,   S_AUTH,     NONE,                  CMD_ADMIN_ONLY | CMD_RAW },
        { "SYNCRESTORE",  cmd_syncrestore,   S_AUTH,     NONE,                  CMD_ADMIN_ONLY | CMD_RAW },
        { "THREAD",       cmd_thread,        S_SELECTED, SELECTED(R),           CMD_POLL | CMD_SEQNO | CMD_UID_FORM }, /* RFC 5256 */
        { "UNAUTHENTICATE", cmd_unauthenticate, S_AUTH,     NONE,                  CMD_NO_LITERALS },                 /* RFC 8437 */
        { "UNSELECT",     cmd_unselect,      S_SELECTED, NONE,                  CMD_NO_LITERALS },                    /* RFC 9051 6.4.2, 3691 */
        { "UNSUBSCRIBE",  cmd_unsubscribe,   S_AUTH,     NONE,                  CMD_POLL | CMD_CHANGES },                           /* RFC 9051 6.3.8 */
        { "URLFETCH",     cmd_urlfetch,      S_AUTH,     NAMED(URL_RIGHTS),     CMD_POLL },                           /* RFC 4467 */
        { "XLIST",        cmd_xlist,         S_AUTH,     NAMED(LIST_RIGHTS),     CMD_POLL },
        { "XRUNANNOTATOR", cmd_xrunannotator, S_SELECTED, { .selected = R, .selected_any = W | N }, CMD_POLL | CMD_SEQNO | CMD_UID_FORM | CMD_WRITES | CMD_NO_LITERALS | CMD_CHANGES }, /* Cyrus's */
};
const size_t imap_cmds_n = ARRAY_LEN(imap_cmds);

static int by_name(const void *key, const void *row)
{
        return span_icmp(*(const struct span *)key, span_of(((const struct imap_cmd *)row)->name));
}

const struct imap_cmd *imap_cmd_find(struct span name)
{
        return bsearch(&name, imap_cmds, imap_cmds_n, sizeof imap_cmds[0], by_name);
}

/* Tag, name, the UID before it. Returns false: the reply is there. */
static bool parse_head(struct imap *imap)
{
        struct imap_command *c = &imap->cmd;
        struct imap_parser *ip = &c->args;

        if (imap_tag(ip, &c->tag) < 0) {
                c->tag = SPAN("*");
                imap_bad(imap, "Invalid tag");
                return false;
        }
        if (imap_sp(ip) < 0 || imap_atom(ip, &c->name) < 0) {
                imap_bad(imap, "Command name missing: %s", ip->err.text);
                return false;
        }
        if (imap_word_is(c->name, "UID")) {
                c->uid = true;
                if (imap_sp(ip) < 0 || imap_atom(ip, &c->name) < 0) {
                        imap_bad(imap, "Command name missing after UID");
                        return false;
                }
        }
        c->cmd = imap_cmd_find(c->name);
        if (!c->cmd || (c->uid && !(c->cmd->flags & CMD_UID_FORM)) ||
            ((c->cmd->flags & CMD_ADMIN_ONLY) && !imap->is_admin && imap->state != IMAP_NOT_AUTH) || ((c->cmd->flags & CMD_RAW) && !imap_sync_ops())) {
                c->cmd = NULL;
                imap_bad(imap, "Unknown command");
                return false;
        }
        return true;
}

static bool check_row(struct imap *imap)
{
        struct imap_command *c = &imap->cmd;
        unsigned flags = c->cmd->flags;
        const char *code, *text;

        if (!(c->cmd->states & imap->state)) {
                imap_bad(imap, "%s", imap->state == IMAP_NOT_AUTH ? "Log in first"
                                   : c->cmd->states == S_NOT_AUTH ? "Already logged in" : "No mailbox is selected");
                return false;
        }
        if (imap->uidonly && (flags & CMD_UID_FORM) && !c->uid && c->cmd->fn != cmd_expunge) {  /* RFC 9586: also where they only come back */
                imap_bad(imap, "[UIDREQUIRED] Message numbers are not used any more");
                return false;
        }
        if ((flags & CMD_NO_LITERALS) && memchr(c->args.p, '\n', (size_t)(c->args.end - c->args.p))) {
                imap_bad(imap, "%s takes no literals", c->cmd->name);
                return false;
        }
        if ((flags & CMD_ADMIN) && !imap->is_admin) {
                imap_no(imap, "NOPERM", "Permission denied");
                return false;
        }
        if (c->cmd->states == S_SELECTED && !imap_selected_allows(imap, &code, &text)) {
                imap_no(imap, code, "%s", text);
                return false;
        }
        return true;
}

bool imap_command_is_raw(struct imap *imap, struct span in, size_t *head_r, bool *undecided_r)
{
        size_t tag = span_index(in, ' '), line = span_index(in, '\n'), n;
        const struct imap_cmd *cmd;
        struct span rest;

        *undecided_r = false;
        if (!imap->is_admin || imap->state == IMAP_NOT_AUTH || !imap_sync_ops() || tag > RAW_TAG_MAX)
                return false;
        if (tag == in.len)
                return (*undecided_r = line == in.len) && false;
        rest = (struct span){ in.p + tag + 1, in.len - tag - 1 };
        if (rest.len < 4)
                return (*undecided_r = line == in.len && strncasecmp("SYNC", rest.p, rest.len) == 0) && false;
        if (!span_istarts(rest, "SYNC"))
                return false;
        for (n = 0; n < rest.len && n <= RAW_TAG_MAX && (ascii_isalpha(rest.p[n])); n++)
                ;
        if (n == rest.len)
                return (*undecided_r = true) && false;
        cmd = imap_cmd_find((struct span){ rest.p, n });
        *head_r = tag + 1 + n;
        return cmd && (cmd->flags & CMD_RAW);
}

/* For `cyrctl sessions`: the mailbox and the command, which stays shown until the next one. */
static void set_status(struct imap *imap)
{
        const struct mbentry *entry = imap->sel ? imap->sel->entry : NULL;

        imap->loop->status_entry = entry;
        session_set_status(imap->s, entry ? entry->name : NULL, imap->cmd.cmd ? imap->cmd.cmd->name : NULL);
}

void imap_command_begin(struct imap *imap, struct span text)
{
        struct imap_command *c = &imap->cmd;
        struct session *s = imap->s;
        int64_t word_max = conf_int(imap->conf, imap_service(imap), "maxword");
        int64_t quoted_max = conf_int(imap->conf, imap_service(imap), "maxquoted");

        memset(c, 0, sizeof *c);
        imap_parser_init(&c->args, text, &s->arena, imap->rev2 || imap->utf8);
        if (word_max > 0)
                c->args.word_max = (size_t)word_max;
        if (quoted_max > 0)
                c->args.quoted_max = (size_t)quoted_max;
        c->started_us = clock_mono_us();
        imap->loop->after = PHASE_GATHER;
        imap->loop->phase = parse_head(imap) && check_row(imap) ? PHASE_EXECUTE : PHASE_FINISH;
        if (acknowledge_on() && imap->sel && c->cmd && (c->cmd->flags & CMD_CHANGES))
                c->selected = arena_strdup(&s->arena, imap->sel->entry->name);
        set_status(imap);
}

enum cmd_result imap_command_run(struct imap *imap)
{
        struct imap_loop *loop = imap->loop;
        enum cmd_result r;

        r = imap->cmd.cmd->fn(imap);
        switch (r) {
        case CMD_DONE:
                must(loop->tagged.len > 0);
                loop->phase = PHASE_FINISH;
                break;
        case CMD_TLS:
                loop->phase = PHASE_FINISH;
                loop->after = PHASE_TLS_DRAINED;
                break;
        case CMD_CLOSE:
                loop->phase = PHASE_FINISH;
                loop->closing = true;
                break;
        case CMD_CONTINUE:
                loop->phase = PHASE_LINE;
                break;
        case CMD_WAIT:
                must(imap->cmd.waiting || loop->timer_wait);
                break;
        case CMD_AGAIN:
        case CMD_FLUSH:
        case CMD_INPUT:
                break;
        }
        return r;
}

static void log_command(struct imap *imap)
{
        char buf[LOG_QUOTE_MAX];
        struct imap_command *c = &imap->cmd;

        if (c->cmd && (c->cmd->flags & CMD_LOGGED) && imap->loop->tagged.len && imap->loop->outcome == 'O')
                log_event(LOG_NOTE, imap->s->name, "imap.command", "user=%s command=%s args=%s", imap->userid ? imap->userid : "-",
                          c->cmd->name, log_quote(buf, c->name.p + c->name.len, (size_t)(c->args.end - c->name.p) - c->name.len));
}

/* Its own changes of names are not told to this client (RFC 5465 5). */
static void forget_own_names(struct imap *imap)
{
        if (imap->loop->tagged.len && imap->loop->outcome == 'O')
                imap_audit_names(imap);
        for (unsigned i = 0; i < ARRAY_LEN(imap->cmd.own_names); i++)
                notify_forget_name(imap, imap->cmd.own_names[i]);
}

void imap_command_end(struct imap *imap)
{
        struct imap_loop *loop = imap->loop;
        struct imap_command *c = &imap->cmd;

        acknowledge_end(&c->acknowledge);
        forget_own_names(imap);
        if (c->cleanup)
                c->cleanup(imap);
        log_command(imap);
        if (imap->loop->status_entry != (imap->sel ? imap->sel->entry : NULL))
                set_status(imap);
        if (loop->timer_wait)
                session_timer(imap->s, 0);
        loop->timer_wait = loop->timer_fired = false;
        imap->idling = false;
        for (uint32_t i = 0; i < loop->stages_n; i++)
                stage_unref(&loop->stages[i]);
        free(loop->stages);
        loop->stages = NULL;
        loop->stages_n = loop->stage_files = 0;
        loop->staged_memory = 0;
        if (loop->stage)
                stage_unref(&loop->stage);
        loop->refused = false;
        str_deinit(&loop->tagged);
        memset(c, 0, sizeof *c);
        arena_reset(&imap->s->arena);
        imap_gather_destroy(&imap->gather);
}
