/*
 * client_open - from sync_host to a connection that commands can be sent over: which flavour is spoken, TLS, log-in, DEFLATE (csync sections 1.1 to
 * 1.3).
 *
 * Who answers is seen from the first line: a sync server's banner lists capabilities one a line and ends with "* OK … sync server …", an IMAP server
 * greets with "* OK". So sync_try_imap decides only which port is tried first when no port is given; with a port, whoever is there is talked to in
 * his flavour.
 */
#include "replication/client_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/sasl.h"
#include "server/saslc.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/must.h"

#define BANNER_LINES_MAX 100
#define TIMEOUT_MIN_S 3
#define ATTEMPTS_MAX 3                          /* mechanisms that are tried one after the other */

const char *client_conf_str(const struct client *c, const char *option)
{
        return conf_str(c->conf, c->options.channel, option);
}

/* What went wrong with the connection, as somebody who wants to connect sees it. */
static int unavailable(struct err *err)
{
        if (err->code == ERR_CLOSED || err->code == ERR_IO || err->code == ERR_LIMIT || err->code == ERR_SYNTAX)
                err->code = ERR_UNAVAILABLE;
        return -1;
}

static int read_line(struct client *c, struct err *err)
{
        return client_conn_line(c->conn, CLIENT_LINE_MAX, &c->line, err) < 0 ? unavailable(err) : 0;
}

static int send_line(struct client *c, const char *text, struct err *err)
{
        if (client_conn_write(c->conn, text, strlen(text), err) < 0 || client_conn_write(c->conn, "\r\n", 2, err) < 0 ||
            client_conn_flush(c->conn, err) < 0)
                return unavailable(err);
        return 0;
}

/* ---- what is offered -------------------------------------------------------------------------------------------------------- */

static void forget_offers(struct client *c)
{
        str_clear(&c->mechs);
        c->starttls = c->compress = c->sasl_ir = c->replication = false;
}

/* A capability line of csync, without its "* ". */
static void take_csync_offer(struct client *c, struct span line)
{
        if (span_istarts(line, "SASL ")) {
                str_clear(&c->mechs);
                str_append(&c->mechs, line.p + 5, line.len - 5);
        } else if (span_ieq_str(line, "STARTTLS")) {
                c->starttls = true;
        } else if (span_ieq_str(line, "COMPRESS DEFLATE")) {
                c->compress = true;
        }                                       /* SIEVE-MAILBOX: we have scripts as files, and do not turn it on */
}

/* The words of an IMAP capability list; ends at ']'. */
static void take_imap_offers(struct client *c, struct span words)
{
        forget_offers(c);
        while (words.len) {
                size_t n = span_index(words, ' ');
                struct span word = { words.p, n };

                if (n && memchr(word.p, ']', n))
                        word.len = words.len = span_index(word, ']');
                if (span_istarts(word, "AUTH=")) {
                        if (c->mechs.len)
                                str_append_c(&c->mechs, ' ');
                        str_append(&c->mechs, word.p + 5, word.len - 5);
                }
                c->starttls |= span_ieq_str(word, "STARTTLS");
                c->sasl_ir |= span_ieq_str(word, "SASL-IR");
                c->replication |= span_ieq_str(word, "X-REPLICATION");
                n += n < words.len;
                words = n >= words.len ? (struct span){ "", 0 } : (struct span){ words.p + n, words.len - n };
        }
}

/* "[CAPABILITY …]" in a response's text, or a "* CAPABILITY" line. */
static void look_for_imap_offers(struct client *c, struct span text)
{
        if (span_istarts(text, "[CAPABILITY "))
                take_imap_offers(c, (struct span){ text.p + 12, text.len - 12 });
        else if (span_istarts(text, "CAPABILITY "))
                take_imap_offers(c, (struct span){ text.p + 11, text.len - 11 });
}

/* ---- answers while we log in ------------------------------------------------------------------------------------------------ */

enum answer { ANSWER_OK, ANSWER_NO, ANSWER_CHALLENGE };

static bool cut(struct span *s, const char *prefix)
{
        if (!span_istarts(*s, prefix))
                return false;
        s->p += strlen(prefix);
        s->len -= strlen(prefix);
        return true;
}

/* The next line that is no untagged one. With a tag (IMAP) untagged lines are looked at for capabilities. *text_r is within c->line. */
static int read_answer(struct client *c, const char *tag, enum answer *answer_r, struct span *text_r, struct err *err)
{
        for (;;) {
                struct span s;

                if (read_line(c, err) < 0)
                        return -1;
                s = str_span(&c->line);
                if (cut(&s, "+")) {
                        cut(&s, " ");
                        *answer_r = ANSWER_CHALLENGE;
                        *text_r = s;
                        return 0;
                }
                if (cut(&s, "* BYE") || span_istarts(s, "BYE"))
                        return err_set(err, ERR_UNAVAILABLE, "the replica says: %.*s", (int)(c->line.len < 200 ? c->line.len : 200), c->line.data);
                if (tag && cut(&s, "* ")) {
                        cut(&s, "OK ");
                        look_for_imap_offers(c, s);
                        continue;
                }
                if (tag && (!cut(&s, tag) || !cut(&s, " ")))
                        return err_set(err, ERR_UNAVAILABLE, "the replica's answer has another tag");
                if (cut(&s, "OK"))
                        *answer_r = ANSWER_OK;
                else if (cut(&s, "NO") || cut(&s, "BAD"))
                        *answer_r = ANSWER_NO;
                else
                        return err_set(err, ERR_UNAVAILABLE, "the replica's answer is none of the protocol");
                cut(&s, " ");
                if (tag && *answer_r == ANSWER_OK)
                        look_for_imap_offers(c, s);
                *text_r = s;
                return 0;
        }
}

/* A command without arguments that wait. Returns 0 whatever the answer. */
static int simple_command(struct client *c, const char *tag, const char *command, enum answer *answer_r, struct span *text_r, struct err *err)
{
        char line[80];

        snprintf(line, sizeof line, "%s%s%s", tag ? tag : "", tag ? " " : "", command);
        if (send_line(c, line, err) < 0 || read_answer(c, tag, answer_r, text_r, err) < 0)
                return -1;
        return *answer_r == ANSWER_CHALLENGE ? err_set(err, ERR_UNAVAILABLE, "the replica's answer is none of the protocol") : 0;
}

static int refused(const char *what, struct span text, enum err_code code, struct err *err)
{
        return err_set(err, code, "%s: the replica says: %.*s", what, (int)(text.len < 200 ? text.len : 200), text.p);
}

/* ---- banner and greeting ---------------------------------------------------------------------------------------------------- */

/* The rest of csync's banner; its first line is in c->line. */
static int read_banner(struct client *c, struct err *err)
{
        forget_offers(c);
        for (int i = 0; i < BANNER_LINES_MAX; i++) {
                struct span s = str_span(&c->line);

                if (cut(&s, "* OK"))
                        return 0;
                if (span_istarts(s, "BYE") || span_istarts(s, "* BYE"))
                        return refused("connecting", s, ERR_UNAVAILABLE, err);
                if (!cut(&s, "* "))
                        break;
                take_csync_offer(c, s);
                if (read_line(c, err) < 0)
                        return -1;
        }
        return err_set(err, ERR_UNAVAILABLE, "what answers is no sync server");
}

/* Is what we hear first an IMAP server? */
static bool is_imap_greeting(const struct str *line)
{
        struct span s = str_span(line);

        if (!span_istarts(s, "* OK") && !span_istarts(s, "* PREAUTH"))
                return false;
        return !strstr(s.p, "sync server");
}

static int ask_capabilities(struct client *c, struct err *err)
{
        enum answer answer;
        struct span text;

        forget_offers(c);
        return simple_command(c, "C01", "CAPABILITY", &answer, &text, err);
}

static int greet(struct client *c, struct err *err)
{
        struct span s;

        if (read_line(c, err) < 0)
                return -1;
        c->imap = is_imap_greeting(&c->line);
        if (!c->imap) {
                if (read_banner(c, err) < 0)
                        return -1;
                c->authenticated = c->mechs.len == 0 && !c->starttls;           /* mechanisms there may be with TLS only */
                return 0;
        }
        s = str_span(&c->line);
        c->authenticated = cut(&s, "* PREAUTH ");
        cut(&s, "* OK ");
        forget_offers(c);
        look_for_imap_offers(c, s);
        return c->mechs.len || c->starttls || c->replication ? 0 : ask_capabilities(c, err);
}

/* ---- TLS, log-in, DEFLATE --------------------------------------------------------------------------------------------------- */

static int start_tls(struct client *c, struct err *err)
{
        enum answer answer;
        struct span text;
        char quoted[LOG_QUOTE_MAX];

        if (simple_command(c, c->imap ? "T01" : NULL, "STARTTLS", &answer, &text, err) < 0)
                return -1;
        if (answer != ANSWER_OK) {
                /* As the real client: what was offered does not work there, and is not insisted on. */
                log_event(LOG_WARN, NULL, "sync.starttls", "peer=%s refused=%s", c->peer, log_quote(quoted, text.p, text.len));
                return 0;
        }
        if (client_conn_start_tls(c->conn, c->conf, err) < 0)
                return unavailable(err);
        if (c->imap)
                return ask_capabilities(c, err);
        /* The banner comes again, without COMPRESS, which is offered all the same. */
        if (read_line(c, err) < 0 || read_banner(c, err) < 0)
                return -1;
        c->authenticated = c->mechs.len == 0;
        return 0;
}

/* "-PLUS" wants channel bindings, which we have none of; EXTERNAL a certificate. */
static void drop_mech(struct str *mechs, const char *drop, bool plus)
{
        struct str kept = STR_INIT;

        for (const char *p = mechs->data; *p;) {
                struct span word = { p, strcspn(p, " ") };
                bool is_plus = word.len > 5 && span_ieq_str((struct span){ word.p + word.len - 5, 5 }, "-PLUS");

                p += word.len + (p[word.len] == ' ');
                if (word.len == 0 || (drop && span_ieq_str(word, drop)) || (plus && is_plus))
                        continue;
                if (kept.len)
                        str_append_c(&kept, ' ');
                str_append_span(&kept, word);
        }
        str_deinit(mechs);
        *mechs = kept;
}

/* One mechanism from its start to the answer. 1: logged in, 0: refused, with the reason in err; -1. */
static int exchange(struct client *c, struct saslc *sasl, char mech_name[64], struct err *err)
{
        const char *tag = c->imap ? "A01" : NULL, *mech;
        struct str out = STR_INIT, line = STR_INIT, in = STR_INIT;
        bool has_out = false, pending;
        enum answer answer;
        struct span text;
        int ret = -1;

        if (saslc_start(sasl, c->mechs.data, &mech, &out, &has_out, err) < 0)
                goto out;
        snprintf(mech_name, 64, "%s", mech);
        pending = has_out && c->imap && !c->sasl_ir;
        str_printf(&line, "%s%sAUTHENTICATE %s", tag ? tag : "", tag ? " " : "", mech);
        if (has_out && !pending) {
                str_append_c(&line, ' ');
                if (out.len)
                        base64_encode(str_span(&out), &line);
                else
                        str_append_c(&line, '=');
        }
        client_conn_mute(c->conn, "AUTHENTICATE …\r\n");
        for (;;) {
                if (send_line(c, line.data, err) < 0 || read_answer(c, tag, &answer, &text, err) < 0)
                        goto out;
                if (answer != ANSWER_CHALLENGE)
                        break;
                str_clear(&in);
                str_clear(&line);
                if (pending) {
                        base64_encode(str_span(&out), &line);
                        pending = false;
                        continue;
                }
                str_clear(&out);
                if (base64_decode(text, &in, err) < 0 || saslc_step(sasl, str_span(&in), &out, err) < 0) {
                        struct err ignored = ERR_INIT;

                        if (send_line(c, "*", &ignored) == 0)
                                read_answer(c, tag, &answer, &text, &ignored);
                        ret = 0;
                        goto out;
                }
                base64_encode(str_span(&out), &line);
        }
        if (answer == ANSWER_OK && !saslc_is_done(sasl) && saslc_step(sasl, (struct span){ "", 0 }, &out, err) < 0) {
                err_prefix(err, "the replica could not show that it knows the password");
                goto out;
        }
        ret = answer == ANSWER_OK ? 1 : (refused("log-in", text, ERR_AUTH, err), 0);
out:
        client_conn_mute(c->conn, NULL);
        str_deinit(&out);
        str_deinit(&line);
        str_deinit(&in);
        return ret;
}

static int log_in(struct client *c, const struct client_target *target, struct err *err)
{
        struct saslc_params params = { .conf = c->conf, .service = c->imap ? "imap" : "csync", .host = target->host,
                                       .local = client_conn_local(c->conn), .peer = client_conn_peer(c->conn),
                                       .authname = client_conf_str(c, "sync_authname"), .password = client_conf_str(c, "sync_password"),
                                       .realm = client_conf_str(c, "sync_realm"), .tls_bits = client_conn_tls_bits(c->conn) };
        int rc = 0;

        if (params.authname == NULL)
                return err_set(err, ERR_CONFIG, "sync_authname is not set");
        drop_mech(&c->mechs, NULL, true);
        if (c->mechs.len == 0)
                return err_set(err, ERR_CONFIG, "the replica offers no way to log in%s", params.tls_bits ? "" : " without TLS");
        for (int i = 0; i < ATTEMPTS_MAX && rc == 0 && c->mechs.len; i++) {
                struct saslc *sasl;
                char mech[64] = "";

                err_clear(err);
                if (saslc_create(&params, &sasl, err) < 0)
                        return -1;
                rc = exchange(c, sasl, mech, err);
                saslc_destroy(&sasl);
                drop_mech(&c->mechs, mech, false);
        }
        if (rc <= 0)
                return err->code == ERR_NONE ? err_set(err, ERR_AUTH, "log-in failed") : -1;
        c->authenticated = true;
        return c->imap && !c->replication ? ask_capabilities(c, err) : 0;
}

static int compress(struct client *c, bool offered, struct err *err)
{
        enum answer answer;
        struct span text;

        if (c->imap || !offered)                /* never in the IMAP flavour (csync 1.1) */
                return c->options.need_compress ? err_set(err, ERR_UNSUPPORTED, "the replica does not offer compression") : 0;
        if (simple_command(c, NULL, "COMPRESS DEFLATE", &answer, &text, err) < 0)
                return -1;
        if (answer != ANSWER_OK)
                return c->options.need_compress ? refused("compression", text, ERR_UNSUPPORTED, err) : 0;
        if (client_conn_start_deflate(c->conn, err) < 0)
                return unavailable(err);
        c->counts.deflate = true;
        return 0;
}

/* Who is logged in and no admin hears it from every command; better now than as the failure of each item. */
static int check_admin(struct client *c, struct err *err)
{
        enum answer answer;
        struct span text;

        if (simple_command(c, c->imap ? "R01" : NULL, c->imap ? "SYNCRESTART" : "RESTART", &answer, &text, err) < 0)
                return -1;
        return answer == ANSWER_OK ? 0 : refused("the log-in must be one of the replica's admins", text, ERR_AUTH, err);
}

/* ---- all of it -------------------------------------------------------------------------------------------------------------- */

static bool has_failover(const struct client *c)
{
        return !c->options.any_role && conf_switch(c->conf, c->options.channel, "sync_failover");
}

static int connect_once(struct client *c, const struct client_target *target, const char *port, struct err *err)
{
        int64_t timeout = conf_duration_s(c->conf, NULL, "sync_timeout");
        struct client_conn_params params = { .conf = c->conf, .stop = c->options.stop, .traffic = c->options.traffic, .ctx = c->options.ctx };
        bool compress_offered;

        params.timeout_s = (unsigned)(timeout < TIMEOUT_MIN_S ? TIMEOUT_MIN_S : timeout > INT32_MAX / 1000 ? INT32_MAX / 1000 : timeout);
        if (client_conn_open(&params, target, port, &c->conn, err) < 0)
                return unavailable(err);
        if (greet(c, err) < 0)
                return -1;
        compress_offered = c->compress;
        if (c->starttls && !client_conn_tls_bits(c->conn) && start_tls(c, err) < 0)
                return -1;
        if (!c->authenticated && !target->noauth && log_in(c, target, err) < 0)
                return -1;
        if (c->imap && !c->replication && c->authenticated && ask_capabilities(c, err) < 0)
                return -1;
        if (c->imap && !c->replication)
                return err_set(err, ERR_UNSUPPORTED, "the IMAP server there has no X-REPLICATION");
        if (check_admin(c, err) < 0 || compress(c, compress_offered, err) < 0)
                return -1;
        return has_failover(c) ? client_agree_on_role(c, err) : 0;
}

static void disconnect(struct client *c)
{
        struct err err = ERR_INIT;

        if (!c->conn)
                return;
        if (c->over == CLIENT_OK) {
                client_conn_hurry(c->conn, 2);
                send_line(c, c->imap ? "Q01 LOGOUT" : "EXIT", &err);
        }
        client_conn_close(&c->conn);
}

static void describe(struct client *c, const struct client_target *t, const char *port)
{
        struct str s = STR_INIT;

        str_append_str(&s, t->host);
        if (!t->unix_socket)
                str_printf(&s, ":%s", t->port[0] ? t->port : port);
        free(c->peer);
        c->peer = str_take(&s);
}

static int connect_either(struct client *c, const struct client_target *target, struct err *err)
{
        const char *port = client_conf_str(c, "sync_port");
        bool try_imap = conf_switch(c->conf, c->options.channel, "sync_try_imap"), fixed = target->unix_socket || target->port[0] || port;

        describe(c, target, fixed && port ? port : try_imap ? "imap" : "csync");
        if (fixed || !try_imap)
                return connect_once(c, target, port ? port : "csync", err);
        if (connect_once(c, target, "imap", err) == 0)
                return 0;
        if (err->code != ERR_UNAVAILABLE && err->code != ERR_UNSUPPORTED)
                return -1;
        disconnect(c);
        err_clear(err);
        describe(c, target, "csync");
        return connect_once(c, target, "csync", err);
}

static char *copy_string(const char *s)
{
        return s ? xstrdup(s) : NULL;
}

int client_open(const struct client_options *options, struct client **client_r, struct err *err)
{
        struct client *c = xcalloc(1, sizeof *c);
        struct client_target target;
        const char *host;
        int rc = -1;

        c->options = *options;
        c->options.channel = copy_string(options->channel);
        c->options.host = copy_string(options->host);
        c->options.partition = copy_string(options->partition);
        c->store = options->store;
        c->conf = conf_ref(options->conf);
        str_init(&c->line);
        str_init(&c->mechs);
        str_init(&c->out);
        arena_init(&c->reply);
        c->partitions = table_create();
        host = c->options.host ? c->options.host : client_conf_str(c, "sync_host");
        if (!host || !*host)
                err_set(err, ERR_CONFIG, "sync_host is not set");
        else if (client_target_parse(host, &target, err) == 0 && (!has_failover(c) || role_may_replicate(err) == 0))
                rc = connect_either(c, &target, err);
        if (rc < 0) {
                if (c->peer)
                        err_prefix(err, "%s", c->peer);
                client_close(&c);
        } else {
                c->counts.opened = clock_wall_s();
                c->counts.imap = c->imap;
                c->counts.tls = client_conn_tls_bits(c->conn) > 0;
        }
        *client_r = c;
        return rc;
}

void client_close(struct client **cp)
{
        struct client *c = *cp;

        *cp = NULL;
        if (!c)
                return;
        disconnect(c);
        table_destroy(&c->partitions);
        guid_set_deinit(&c->staged);
        arena_deinit(&c->reply);
        str_deinit(&c->out);
        str_deinit(&c->line);
        str_deinit(&c->mechs);
        free(c->peer);
        free((char *)c->options.channel);
        free((char *)c->options.host);
        free((char *)c->options.partition);
        conf_unref(&c->conf);
        free(c);
}

const char *client_peer(const struct client *c)
{
        return c->peer;
}

void client_traffic(const struct client *c, struct client_traffic *traffic_r)
{
        struct client_conn_counts n = { 0, 0, 0, 0 };

        if (c->conn)
                client_conn_counts(c->conn, &n);
        *traffic_r = c->counts;
        traffic_r->sent = n.sent;
        traffic_r->received = n.received;
        traffic_r->wire_sent = n.wire_sent;
        traffic_r->wire_received = n.wire_received;
}

const char *client_reply_code(const struct client *c)
{
        return c->reply_code;
}

const char *client_result_name(enum client_result result)
{
        static const char *const names[] = { "ok", "failed", "put-off", "lost", "bye", "stopped" };

        return names[result];
}
