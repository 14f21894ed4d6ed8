/*
 * csync_server - whole sessions of a peer with the csync server, over a socket, against a real store: whatever comes, it answers and the session ends; the store
 * goes on, and a peer that behaves gets its answers after it.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "replication/server.h"
#include "server/names.h"
#include "server/protocols.h"
#include "server/sasl.h"
#include "server/service.h"
#include "server/tls.h"
#include "store/replica.h"
#include "store/user.h"
#include "t/store/scratch.h"
#include "util/must.h"

/* The engine's threads and libdb keep what they have; leaks are looked for by t/replication/server. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0"; }

#define ANSWER_MS 20000
#define ANEW 500                                /* inputs; then what they have made goes */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static struct store *store;
static struct conf_live *live;
static char path[120];

static void at_end(void)
{
        engine_stop(500);
        store_close(&store);
        conf_live_destroy(&live);
        scratch_remove();
}

static void make_user(void)
{
        struct mbox_create what = { .name = "user.ann", .acl = "ann\tlrswipkxtecda\t" };
        struct err err = ERR_INIT;

        if (mboxlist_create(store_mboxlist(store), &what, NULL, &err) < 0 && err.code != ERR_EXISTS) {
                fprintf(stderr, "create: %s\n", err.text);
                abort();
        }
}

static int listen_unix(void)
{
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
        must(fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0 && listen(fd, 16) == 0);
        return fd;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
        struct service_params params;
        struct engine_options engine = { .workers = 1 };
        struct store_options options = { 0 };
        struct service_args args = { .external_ssf = 0 };
        struct service *service;
        struct err err = ERR_INIT;
        char text[1000];

        (void)argc;
        (void)argv;
        scratch_make();
        snprintf(path, sizeof path, "%s/csync", scratch_dir);
        snprintf(text, sizeof text, "configdirectory: %s/conf\npartition-default: %s/mail\ndefaultpartition: default\nsievedir: %s/sieve\nadmins: admin\nallowusermoves: yes\n"
                 "delete_mode: immediate\nsync_timeout: 5s\n", scratch_dir, scratch_dir, scratch_dir);
        sync_server_register();
        engine.conf = live = conf_live_create(conf_text(text));
        options.conf = conf_live_get(live);
        if (tls_init(&err) < 0 || sasl_setup(live, &err) < 0 || store_open(&options, &store, &err) < 0)
                goto failed;
        conf_unref(&options.conf);
        engine.store = store;
        make_user();
        params = protocol_params("csync", program_find("sync_server"), &args, -1);
        params.preauthorized = true;
        if (engine_start(&engine, &err) < 0 || service_add(&params, &service, &err) < 0 || service_listen(service, listen_unix(), &err) < 0)
                goto failed;
        atexit(at_end);
        return 0;
failed:
        fprintf(stderr, "%s\n", err.text);
        abort();
}

/* Send it, say that that is all, and read until the server hangs up. Is `wanted` among what it has said? */
static bool talk(const void *data, size_t size, const char *wanted)
{
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        struct timeval patience = { ANSWER_MS / 1000, 0 };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct str said = STR_INIT;
        char buf[65536];
        bool found;
        ssize_t n;

        snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
        must(fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) == 0);
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        for (size_t at = 0; at < size;) {
                n = send(fd, (const char *)data + at, size - at, MSG_NOSIGNAL);
                if (n < 0 && errno != EINTR)    /* the fuzzer's timer */
                        break;                  /* it has hung up already: its right */
                at += n > 0 ? (size_t)n : 0;
        }
        shutdown(fd, SHUT_WR);
        while ((n = recv(fd, buf, sizeof buf, 0)) > 0 || (n < 0 && errno == EINTR))
                if (wanted && n > 0)
                        str_append(&said, buf, (size_t)n);
        must(n == 0 || errno == ECONNRESET);    /* else: it hangs */
        close(fd);
        found = !wanted || (said.data && strstr(said.data, wanted));
        str_deinit(&said);
        return found;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static const char behaves[] = "GET USER ann\r\nNOOP\r\nEXIT\r\n";
        static unsigned n;

        talk(data, size, NULL);
        if (++n % 64 == 0)
                must(talk(behaves, sizeof behaves - 1, "OK Noop completed"));
        if (n % ANEW == 0) {
                const struct mbentry *entries[64];
                struct err err = ERR_INIT;
                unsigned k;

                while ((k = mboxlist_next(store_mboxlist(store), "", "", entries, 64)) > 0)
                        for (unsigned i = 0; i < k; i++) {
                                (void)mboxlist_delete_tree(store_mboxlist(store), entries[i]->name, true, &err);
                                mbentry_unref(&entries[i]);
                        }
                make_user();
        }
        return 0;
}
