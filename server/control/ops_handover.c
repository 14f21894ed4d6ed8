/*
 * ops_handover - a client that somebody else accepted – inetd, a tunnel, another master – comes to the daemon as a descriptor (SCM_RIGHTS),
 * from one of our service programs (server/handover.h). It is served as if its service had accepted it: the same limits, times and flags.
 *   "program"  imapd, lmtpd, pop3d …      "name"  the service's, for options and limits
 *   "argv"     the program's words         "listened"  a listening socket gave it, as a master does
 *   descriptors: the client's socket; perhaps a second one that is closed when the session has ended
 * Only root and our own user may.
 */
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/control/ops.h"
#include "server/masterconf.h"
#include "server/names.h"
#include "server/protocols.h"
#include "server/service.h"
#include "util/log.h"

static int may(const struct ctl_call *call, struct err *err)
{
        if (call->peer_uid == 0 || call->peer_uid == geteuid())
                return 0;
        return err_set(err, ERR_PERM, "user %u may not: only root and the daemon's own user", (unsigned)call->peer_uid);
}

static int check_socket(int fd, struct err *err)
{
        int type = 0, listening = 0, domain = 0;
        socklen_t len = sizeof type;

        if (fd < 0)
                return err_set(err, ERR_SYNTAX, "no descriptor came along");
        if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_STREAM)
                return err_set(err, ERR_SYNTAX, "the descriptor is no stream socket");
        len = sizeof listening;
        if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) < 0 || listening)
                return err_set(err, ERR_SYNTAX, "the descriptor is a listening socket");
        len = sizeof domain;
        if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) < 0 || (domain != AF_INET && domain != AF_INET6 && domain != AF_UNIX))
                return err_set(err, ERR_SYNTAX, "a socket of this family is not served");
        return 0;
}

/* Names as cyrus.conf has them: options are looked up by them. */
static bool name_ok(const char *name)
{
        size_t n = strlen(name);

        for (size_t i = 0; i < n; i++)
                if (!ascii_isalpha(name[i]) && !ascii_isdigit(name[i]))
                        return false;
        return n > 0 && n < 32;
}

static int take_args(struct ctl_call *call, const struct program **program_r, struct service_args *args_r, struct err *err)
{
        const char *program = ctl_arg(call, "program"), *name = ctl_arg(call, "name");
        const json_t *words = json_object_get(call->args, "argv"), *word;
        char *argv[MASTERCONF_ARGS_MAX + 1];
        size_t i;

        *program_r = program ? program_find(program) : NULL;
        if (!*program_r || (*program_r)->kind != PROGRAM_SERVICE)
                return err_set(err, ERR_SYNTAX, "\"%s\" is no service", program ? program : "");
        if (!name || !name_ok(name))
                return err_set(err, ERR_SYNTAX, "a service's name is of letters and digits");
        if (!json_is_array(words) || json_array_size(words) == 0 || json_array_size(words) > MASTERCONF_ARGS_MAX)
                return err_set(err, ERR_SYNTAX, "argv: 1 to %d words are wanted", MASTERCONF_ARGS_MAX);
        json_array_foreach((json_t *)(uintptr_t)words, i, word) {
                if (!json_is_string(word))
                        return err_set(err, ERR_SYNTAX, "argv: words are wanted");
                argv[i] = (char *)(uintptr_t)json_string_value(word);
        }
        argv[i] = NULL;
        return service_args_parse(*program_r, (int)i, argv, args_r, err);
}

int ctl_handover(struct ctl_call *call, struct err *err)
{
        struct adoption adoption = { .listened = ctl_arg_bool(call, "listened") };
        const struct program *program;
        struct service_args args;
        struct service_params params;
        struct service *service;
        char quoted[LOG_QUOTE_MAX];
        int rc;

        if (may(call, err) < 0 || take_args(call, &program, &args, err) < 0 || check_socket(call->fds[0], err) < 0)
                return -1;
        params = protocol_params(ctl_arg(call, "name"), program, &args, -1);
        if (service_for(&params, &service, err) < 0)
                return -1;
        adoption.fd = call->fds[0];
        adoption.lifeline = call->fds[1];
        call->fds[0] = call->fds[1] = -1;
        rc = service_adopt(service, &adoption, err);
        service_release(&service);
        if (rc < 0)
                return -1;
        log_event(LOG_INFORM, adoption.name_r, "session.adopted", "service=%s program=%s uid=%u", log_quote_str(quoted, params.name), program->name,
                  (unsigned)call->peer_uid);
        call->row(call, json_pack("{s:s}", "session", adoption.name_r));
        return 0;
}

/* The real daemon is about to start: a temporary one makes way. */
int ctl_temporary_end(struct ctl_call *call, struct err *err)
{
        if (may(call, err) < 0)
                return -1;
        if (!engine_temporary())
                return err_set(err, ERR_UNSUPPORTED, "this daemon is not a temporary one");
        kill(getpid(), SIGTERM);
        return 0;
}
