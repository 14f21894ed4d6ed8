/* http - see http.h */
#include "server/http.h"

#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/bind.h"
#include "server/metrics.h"
#include "util/log.h"
#include "util/must.h"
#include "util/str.h"

#define LISTENERS_MAX 8u
#define CONNECTIONS_MAX 32u                     /* of one listener */
#define PER_ADDRESS_MAX 16u
#define SILENCE_S 10u
#define CONNECTION_OCTETS ((size_t)16 * 1024)
#define STACK_OCTETS ((size_t)256 * 1024)
#define BACKLOG 32

static struct {                                 /* the main thread's */
        char *option;                           /* as it was when this was opened; NULL: closed */
        struct { struct bound bound; struct MHD_Daemon *daemons[BIND_SOCKETS_MAX]; } v[LISTENERS_MAX];
        unsigned n;
} http;

/* ---- answering -------------------------------------------------------------------------------------------------------------- */

static enum MHD_Result send_text(struct MHD_Connection *c, unsigned status, const char *type, const char *allow, struct str *text)
{
        size_t len = text->len;
        struct MHD_Response *r = MHD_create_response_from_buffer(len, text->data, MHD_RESPMEM_MUST_COPY);
        enum MHD_Result rc;

        str_deinit(text);
        if (!r)
                return MHD_NO;
        MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
        MHD_add_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
        MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
        if (allow)
                MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, allow);
        rc = MHD_queue_response(c, status, r);
        MHD_destroy_response(r);
        return rc;
}

static enum MHD_Result answer(void *ctx, struct MHD_Connection *c, const char *url, const char *method, const char *version,
                              const char *upload, size_t *upload_size, void **request)
{
        static char seen;
        struct str text = STR_INIT;

        (void)ctx;
        (void)version;
        (void)upload;
        if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0) {
                str_append_str(&text, "Only GET and HEAD.\n");
                return send_text(c, MHD_HTTP_METHOD_NOT_ALLOWED, "text/plain", "GET, HEAD", &text);
        }
        if (*upload_size > 0)
                return MHD_NO;                          /* GET with a body: not worth an answer */
        if (!*request) {                                /* the headers are there: the answer comes with the next call */
                *request = &seen;
                return MHD_YES;
        }
        if (strcmp(url, "/metrics") == 0) {
                metrics_text(&text);
                return send_text(c, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", NULL, &text);
        }
        if (strcmp(url, "/") == 0) {
                metrics_page(&text);
                return send_text(c, MHD_HTTP_OK, "text/html; charset=utf-8", NULL, &text);
        }
        str_append_str(&text, "Not here. There are / and /metrics.\n");
        return send_text(c, MHD_HTTP_NOT_FOUND, "text/plain", NULL, &text);
}

/* ---- listening -------------------------------------------------------------------------------------------------------------- */

/* "127.0.0.1:9100", "[::1]:9100", "/run/cyrd/metrics" → what bind_entry() takes, with its strings in `buf`. */
static int parse_address(const char *word, char buf[256], struct master_entry *e, struct err *err)
{
        char *colon;

        if ((size_t)snprintf(buf, 256, "%s", word) >= 256)
                return err_set(err, ERR_CONFIG, "metrics_listen: \"%s\" is too long", word);
        *e = (struct master_entry){ .section = MASTER_SERVICES, .name = "metrics", .listen = word, .proto = MASTER_UNIX };
        if (word[0] == '/')
                return 0;
        colon = strrchr(buf, ':');
        if (!colon || colon == buf || !colon[1])
                return err_set(err, ERR_CONFIG, "metrics_listen: \"%s\" is not HOST:PORT, [ADDRESS]:PORT or a path", word);
        *colon = '\0';
        e->proto = MASTER_TCP;
        e->port = colon + 1;
        e->host = buf;
        if (buf[0] == '[' && colon[-1] == ']') {
                colon[-1] = '\0';
                e->host = buf + 1;
        }
        return 0;
}

static int open_one(const char *word, struct err *err)
{
        struct master_entry e;
        struct bound *b = &http.v[http.n].bound;
        struct MHD_Daemon **daemons = http.v[http.n].daemons;
        char buf[256];

        memset(daemons, 0, sizeof http.v[http.n].daemons);
        if (parse_address(word, buf, &e, err) < 0 || (e.proto == MASTER_UNIX && bind_make_parent(word, err) < 0) ||
            bind_entry(&e, (unsigned)-1, (unsigned)-1, b, err) < 0)
                return -1;
        if (bound_listen(b, BACKLOG, err) < 0) {
                bound_close(b);
                return -1;
        }
        http.n++;                                       /* from here on http_close() ends it */
        for (size_t i = 0; i < b->n; i++) {
                daemons[i] = MHD_start_daemon(MHD_USE_AUTO | MHD_USE_INTERNAL_POLLING_THREAD, 0, NULL, NULL, answer, NULL,
                                              MHD_OPTION_LISTEN_SOCKET, b->v[i].fd, MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX,
                                              MHD_OPTION_PER_IP_CONNECTION_LIMIT, e.proto == MASTER_UNIX ? 0u : PER_ADDRESS_MAX,
                                              MHD_OPTION_CONNECTION_TIMEOUT, SILENCE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                                              CONNECTION_OCTETS, MHD_OPTION_THREAD_STACK_SIZE, STACK_OCTETS, MHD_OPTION_END);
                if (!daemons[i])
                        return err_set(err, ERR_UNAVAILABLE, "metrics_listen: libmicrohttpd cannot serve %s", b->v[i].address);
                log_event(LOG_NOTE, NULL, "metrics.listening", "address=%s", b->v[i].address);
                b->v[i].fd = -1;                        /* libmicrohttpd's now */
        }
        return 0;
}

void http_close(void)
{
        for (unsigned i = 0; i < http.n; i++) {
                for (size_t k = 0; k < BIND_SOCKETS_MAX; k++)
                        if (http.v[i].daemons[k])
                                MHD_stop_daemon(http.v[i].daemons[k]);
                bound_close(&http.v[i].bound);
        }
        http.n = 0;
        free(http.option);
        http.option = NULL;
}

void http_listen(struct conf *conf)
{
        const char *option = conf_str(conf, NULL, "metrics_listen");
        char *words, *word, *save = NULL;

        if (http.option && option && strcmp(http.option, option) == 0)
                return;
        http_close();
        if (!option || !*option)
                return;
        http.option = xstrdup(option);
        words = xstrdup(option);
        for (word = strtok_r(words, " \t", &save); word && http.n < LISTENERS_MAX; word = strtok_r(NULL, " \t", &save)) {
                struct err err = ERR_INIT;
                char quoted[LOG_QUOTE_MAX];

                if (open_one(word, &err) < 0)
                        log_event(LOG_ERROR, NULL, "metrics.failed", "reason=%s", log_quote_str(quoted, err.text));
        }
        if (word)
                log_event(LOG_ERROR, NULL, "metrics.failed", "reason=\"metrics_listen has more than %u addresses\"", LISTENERS_MAX);
        free(words);
}
