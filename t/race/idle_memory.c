/*
 * idle_memory - what an idle session costs: growth of PSS with 2,000 sessions parked, plain, over TLS, and with DEFLATE after 12 KiB of
 * commands. The clients are another process. The protocol here is a line echo with 1 KiB of its own, so the bounds here leave room within the budgets (8 and 24 KiB for a whole IMAP session)
 * for what IMAP keeps.
 *
 *   idle_memory [sessions]
 */
#include <arpa/inet.h>
#include <gnutls/gnutls.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

#include "server/service.h"
#include "server/tls.h"
#include "t/store/conf_text.h"
#include "util/fs.h"
#include "util/log.h"
#include "util/must.h"

#define PLAIN_MAX 4096
#define TLS_MAX (14 * 1024)
#define DEFLATE_MAX (7 * 1024)                  /* a window of 12 KiB of commands, compressed, and what was sent last */
#define COMMANDS 300

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1                             /* its shadow memory is not what an operator pays */
#else
#define SANITIZED 0
#endif

struct echo { char room[1024]; };

static void echo_open(struct session *s)
{
        s->authenticated = s->idle_ok = true;
        rope_append_str(&s->out, "hello\n");
}

static void echoz_open(struct session *s)
{
        s->authenticated = s->idle_ok = true;
        stream_start_deflate(s->stream, SPAN(""));
}

static enum step echo_run(struct session *s)
{
        size_t eol;

        if (s->woken & (WAKE_STOP | WAKE_TIMEOUT))
                return STEP_CLOSE;
        s->woken = 0;
        while ((eol = span_index(str_span(&s->in), '\n')) < s->in.len) {
                rope_append(&s->out, s->in.data, eol + 1);
                str_consume(&s->in, eol + 1);
        }
        return STEP_INPUT;
}

static void echo_close(struct session *s)
{
        (void)s;
}

static const struct session_ops echo_ops = { .protocol = "echo", .size = sizeof(struct echo), .open = echo_open, .run = echo_run,
                                             .close = echo_close };

static const struct session_ops echoz_ops = { .protocol = "echoz", .size = sizeof(struct echo), .open = echoz_open, .run = echo_run,
                                              .close = echo_close };

static long pss_kib(void)
{
        FILE *f = fopen("/proc/self/smaps_rollup", "r");
        char line[256];
        long kib = -1;

        must(f != NULL);
        while (fgets(line, sizeof line, f))
                if (sscanf(line, "Pss: %ld kB", &kib) == 1)
                        break;
        fclose(f);
        return kib;
}

static int dial(uint16_t port)
{
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = { htonl(INADDR_LOOPBACK) } };
        int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;

        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        must(fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) == 0);
        return fd;
}

static void exchange(int fd, gnutls_session_t tls)
{
        char buf[64];
        size_t got = 0;

        must(tls ? gnutls_record_send(tls, "ping\n", 5) == 5 : write(fd, "ping\n", 5) == 5);
        while (got < 11) {
                ssize_t n = tls ? gnutls_record_recv(tls, buf, sizeof buf) : read(fd, buf, sizeof buf);

                if (tls && n == GNUTLS_E_AGAIN)
                        continue;                       /* a session ticket came */
                must(n > 0);
                got += (size_t)n;
        }
}

/* Commands one by one, as a client sends them; the echo of each is waited for. */
static void exchange_deflated(int fd)
{
        z_stream out = { 0 }, in = { 0 };
        unsigned char line[128], packed[256], answer[256], echo[256];

        must(deflateInit2(&out, 1, Z_DEFLATED, -13, 1, Z_DEFAULT_STRATEGY) == Z_OK && inflateInit2(&in, -15) == Z_OK);
        for (int i = 0; i < COMMANDS; i++) {
                size_t got = 0;

                out.next_in = line;
                out.avail_in = (uInt)sprintf((char *)line, "A%d UID FETCH %d:%d (FLAGS)\n", i, rand() % 100000, rand() % 100000);
                got = out.avail_in;
                out.next_out = packed;
                out.avail_out = sizeof packed;
                must(deflate(&out, Z_SYNC_FLUSH) == Z_OK && out.avail_in == 0);
                must(write(fd, packed, sizeof packed - out.avail_out) > 0);
                in.next_out = echo;
                in.avail_out = sizeof echo;
                while (sizeof echo - in.avail_out < got) {
                        ssize_t n = read(fd, answer, sizeof answer);

                        must(n > 0);
                        in.next_in = answer;
                        in.avail_in = (uInt)n;
                        must(inflate(&in, Z_SYNC_FLUSH) == Z_OK);
                }
                must(memcmp(echo, line, got) == 0);
        }
        deflateEnd(&out);
        inflateEnd(&in);
}

enum how { PLAIN, TLS, DEFLATED };

/* The other process: connect, one exchange each, then stay until told to go. */
static void clients(uint16_t port, enum how how, int n, int ready, int go)
{
        gnutls_certificate_credentials_t cred;
        char c = 0;

        gnutls_certificate_allocate_credentials(&cred);
        for (int i = 0; i < n; i++) {
                int fd = dial(port);
                gnutls_session_t session = NULL;

                if (how == TLS) {
                        gnutls_init(&session, GNUTLS_CLIENT);
                        gnutls_set_default_priority(session);
                        gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, cred);
                        gnutls_transport_set_int(session, fd);
                        must(gnutls_handshake(session) == 0);
                }
                if (how == DEFLATED)
                        exchange_deflated(fd);
                else
                        exchange(fd, session);
        }
        must(write(ready, &c, 1) == 1);
        must(read(go, &c, 1) >= 0);
        _exit(0);
}

static long growth_per_session(uint16_t port, enum how how, int n)
{
        int ready[2], go[2];
        long before;
        pid_t pid;
        char c;

        must(pipe(ready) == 0 && pipe(go) == 0);
        malloc_trim(0);
        before = pss_kib();
        pid = fork();
        must(pid >= 0);
        if (pid == 0)
                clients(port, how, n, ready[1], go[0]);
        close(ready[1]);
        must(read(ready[0], &c, 1) == 1);               /* 0: the clients have failed */
        sleep(how == DEFLATED ? 5 : 1);                 /* until stream_rest() */
        malloc_trim(0);
        before = (pss_kib() - before) * 1024 / n;
        close(go[1]);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        close(ready[0]);
        close(go[0]);
        for (int i = 0; i < 200; i++) {
                struct engine_stats stats;

                engine_stats(&stats);
                if (stats.sessions == 0)
                        break;
                usleep(20000);
        }
        return before;
}

static int listen_any(uint16_t *port_r)
{
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
        socklen_t len = sizeof a;
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        must(bind(fd, (struct sockaddr *)&a, sizeof a) == 0 && listen(fd, 1024) == 0);
        must(getsockname(fd, (struct sockaddr *)&a, &len) == 0);
        *port_r = ntohs(a.sin_port);
        return fd;
}

int main(int argc, char **argv)
{
        int n = argc > 1 ? atoi(argv[1]) : 2000;
        struct service_params params = { .name = "echo", .ops = &echo_ops, .maxchild = -1 };
        struct service *plain, *secure, *deflated;
        struct rlimit rl;
        char dir[] = "/tmp/idle_memory.XXXXXX", cert[64], key[64], text[512];
        struct err err = ERR_INIT;
        struct engine_options options = { .workers = 4 };
        uint16_t plain_port, secure_port, deflated_port;
        long plain_cost, tls_cost, deflated_cost;
        bool ok;

        log_open(LOG_TO_STDERR, "idle_memory", -1, LOG_WARN);
        getrlimit(RLIMIT_NOFILE, &rl);
        rl.rlim_cur = rl.rlim_max;
        setrlimit(RLIMIT_NOFILE, &rl);
        if (rl.rlim_cur < (rlim_t)n + 100)
                n = (int)rl.rlim_cur - 100;
        must(mkdtemp(dir) != NULL);
        snprintf(cert, sizeof cert, "%s/cert", dir);
        snprintf(key, sizeof key, "%s/key", dir);
        snprintf(text, sizeof text, "configdirectory: %s\npartition-default: %s\ntls_server_cert: %s\ntls_server_key: %s\n"
                 "maxunauthenticated: 0\nmaxunauthenticated_per_host: 0\n", dir, dir, cert, key);
        options.conf = conf_live_create(conf_text(text));
        if (tls_make_self_signed("localhost", cert, key, &err) < 0 || engine_start(&options, &err) < 0 ||
            service_add(&params, &plain, &err) < 0)
                goto bail;
        params.name = "echos";
        params.tls_at_once = true;
        if (service_add(&params, &secure, &err) < 0 || service_listen(plain, listen_any(&plain_port), &err) < 0 ||
            service_listen(secure, listen_any(&secure_port), &err) < 0)
                goto bail;
        params.name = "echoz";
        params.ops = &echoz_ops;
        params.tls_at_once = false;
        if (service_add(&params, &deflated, &err) < 0 || service_listen(deflated, listen_any(&deflated_port), &err) < 0)
                goto bail;
        growth_per_session(deflated_port, DEFLATED, 20);        /* what is made once is not counted */
        deflated_cost = growth_per_session(deflated_port, DEFLATED, n / 8);
        growth_per_session(plain_port, PLAIN, 50);
        growth_per_session(secure_port, TLS, 50);
        plain_cost = growth_per_session(plain_port, PLAIN, n);
        tls_cost = growth_per_session(secure_port, TLS, n);
        engine_stop(3000);
        conf_live_destroy(&options.conf);
        fs_remove_tree(dir, NULL);
        printf("# %d sessions: %ld octets each, over TLS %ld, with DEFLATE %ld\n1..3\n", n, plain_cost, tls_cost, deflated_cost);
        ok = SANITIZED || (plain_cost <= PLAIN_MAX && tls_cost <= TLS_MAX && deflated_cost <= DEFLATE_MAX);
        printf("%s 1 - a plain idle session costs at most %d octets\n", SANITIZED || plain_cost <= PLAIN_MAX ? "ok" : "not ok", PLAIN_MAX);
        printf("%s 2 - over TLS at most %d\n", SANITIZED || tls_cost <= TLS_MAX ? "ok" : "not ok", TLS_MAX);
        printf("%s 3 - with DEFLATE at most %d\n", SANITIZED || deflated_cost <= DEFLATE_MAX ? "ok" : "not ok", DEFLATE_MAX);
        return ok ? 0 : 1;
bail:
        printf("Bail out! %s\n", err.text);
        return 1;
}
