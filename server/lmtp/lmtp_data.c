/*
 * lmtp_data - DATA: the message's octets go into a stage as they come (dots.h finds their end). After a refusal is certain the rest is
 * still read, but not kept.
 */
#include <stdio.h>

#include "server/lmtp/lmtp_private.h"
#include "server/servername.h"
#include "util/clock.h"
#include "util/log.h"

static void put(struct lmtp *l, const char *p, size_t len)
{
        struct err err = ERR_INIT;

        l->data_bytes += len;
        if (l->data_err.code != ERR_NONE || len == 0)
                return;
        if (l->size_max && l->data_bytes > l->size_max) {
                err_set(&l->data_err, ERR_LIMIT, "552 5.3.4 Message is larger than %llu octets", (unsigned long long)l->size_max);
        } else if (stage_write(l->stage, p, len, &err) < 0) {
                char quoted[LOG_QUOTE_MAX];

                log_event(LOG_ERROR, l->s->name, "lmtp.stage", "reason=%s", log_quote_str(quoted, err.text));
                err_set(&l->data_err, err.code, err.code == ERR_NOSPACE ? "452 4.3.1 No space left" : "451 4.3.0 Cannot store the message now");
        }
        if (l->data_err.code != ERR_NONE)
                stage_unref(&l->stage);
}

static void refuse(struct lmtp *l, const char *text)
{
        if (l->data_err.code != ERR_NONE)
                return;
        err_set(&l->data_err, ERR_SYNTAX, "%s", text);
        stage_unref(&l->stage);
}

/* In the header: count lines, and treat octets above 0x7f as configured. Returns the octets to be kept (in place). */
static void look_at_header(struct lmtp *l, char *p, size_t len)
{
        size_t i;

        for (i = 0; i < len && l->in_header; i++) {
                if (p[i] == '\n') {
                        if (l->header_column == 0)
                                l->in_header = false;
                        l->header_column = 0;
                        if (l->header_lines_max && ++l->header_lines > l->header_lines_max)
                                refuse(l, "554 5.6.0 The message has too many header lines");
                } else if (p[i] != '\r') {
                        l->header_column++;
                        if ((unsigned char)p[i] >= 0x80 && !l->utf8) {
                                if (l->reject8bit)
                                        refuse(l, "554 5.6.0 The message has 8-bit octets in its header");
                                else if (l->munge8bit)
                                        p[i] = 'X';
                        }
                }
        }
        l->header_bytes += i;
}

static void put_trace(struct lmtp *l)
{
        struct str head = STR_INIT;
        char date[48];
        char name[SERVERNAME_MAX];
        const char *tls = stream_tls_version(l->s->stream);

        servername(l->conf, service_name(l->s->service), name);
        clock_format_rfc5322(date, sizeof date, clock_wall_s());
        /* A return path is a whole address, whatever a local sender has said. */
        str_printf(&head, "Return-Path: <%s%s%s>\r\n", l->from, *l->from && !strchr(l->from, '@') ? "@" : "",
                   *l->from && !strchr(l->from, '@') ? name : "");
        /* RFC 5321 4.4; the transmission types are RFC 3848's and RFC 6531's. */
        str_printf(&head, "Received: from ");
        for (const char *c = l->helo ? l->helo : "unknown"; *c; c++)
                str_append_c(&head, (unsigned char)*c > 0x20 && (unsigned char)*c < 0x7f && !strchr("()<>\\\";", *c) ? *c : '?');
        str_printf(&head, " (%s)\r\n\tby %s (Cyrd) with %sLMTP%s%s id %s;\r\n\t%s\r\n", l->s->peer, name,
                   l->utf8 ? "UTF8" : "", *tls ? "S" : "", l->authenticated && l->step_valid ? "A" : "", l->id, date);
        put(l, head.data, head.len);
        str_deinit(&head);
        l->header_bytes = l->data_bytes;
        l->data_bytes = 0;                              /* the size limit is for what the client sends */
}

int lmtp_data_begin(struct lmtp *l, struct err *err)
{
        const char *service = service_name(l->s->service);
        const char *partition = l->rcpts[0].entry->partition;
        const char *dir = store_partition_dir(engine_store(), partition);

        if (!dir)
                return err_set(err, ERR_NOTFOUND, "partition %s is not configured", partition);
        if (stage_begin(engine_store(), dir, 0, &l->stage, err) < 0)
                return -1;
        snprintf(l->id, sizeof l->id, "%s.%u", l->s->name, ++l->messages);
        l->dots = (struct dots)DOTS_INIT;
        l->data_bytes = 0;
        l->in_header = true;
        l->header_lines = l->header_column = 0;
        l->munge8bit = conf_switch(l->conf, service, "munge8bit");
        l->reject8bit = conf_switch(l->conf, service, "reject8bit");
        err_clear(&l->data_err);
        put_trace(l);
        return 0;
}

static const char bare_text[] = "554 5.6.0 The message has a bare CR, a bare LF or a NUL";

static void take_content(void *ctx, char *p, size_t len)
{
        struct lmtp *l = ctx;

        if (l->in_header)
                look_at_header(l, p, len);
        put(l, p, len);
}

bool lmtp_data_feed(struct lmtp *l, struct str *in)
{
        size_t used = dots_feed(&l->dots, in->data, in->len, take_content, l);

        str_consume(in, used);
        if (l->dots.bare)
                refuse(l, bare_text);
        return l->dots.state == DOTS_END;
}
