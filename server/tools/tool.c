/* tool - see tool.h */
#include "server/tools/tool.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "server/ctl/client.h"
#include "server/identity.h"
#include "util/array.h"
#include "util/diag.h"
#include "util/log.h"

int tool_open(struct tool *t, const char *name, const char *config, enum tool_need need)
{
        struct diag diag = DIAG_INIT;
        struct err err = ERR_INIT;
        struct identity id;
        int ret = -1;

        *t = (struct tool){ .name = name };
        if (conf_load(config, NULL, &t->conf, &diag, &err) == 0 &&
            (need == TOOL_CONF || (conf_require_store(t->conf, &diag, &err) == 0 && identity_find(t->conf, &id, &err) == 0 &&
                                   identity_become(&id, &err) == 0)))
                ret = 0;
        if (ret < 0)
                tool_fail(t, &err);
        log_open(LOG_TO_SYSLOG, name, -1, LOG_WARN);
        diag_deinit(&diag);
        return ret;
}

void tool_close(struct tool *t)
{
        if (t->conf)
                conf_unref(&t->conf);
}

int tool_call(struct tool *t, const char *op, json_t *args, void (*row)(void *ctx, json_t *row), void *ctx, struct err *err)
{
        struct ctl_client client = { .conf = t->conf, .row = row, .ctx = ctx };

        return ctl_client_call(&client, op, args, err);
}

int tool_fail(const struct tool *t, const struct err *err)
{
        fprintf(stderr, "%s: %s\n", t->name, err->text);
        return TOOL_FAILED;
}

const char *tool_str(json_t *row, const char *key)
{
        const char *s = json_string_value(json_object_get(row, key));

        return s ? s : "";
}

const char *tool_time(json_t *row, const char *key, char buf[TOOL_TIME_MAX])
{
        time_t t = (time_t)json_integer_value(json_object_get(row, key));
        struct tm tm;

        localtime_r(&t, &tm);
        strftime(buf, TOOL_TIME_MAX, "%a %b %e %H:%M:%S %Y", &tm);
        return buf;
}

/* Control characters become question marks, tabs apart; also those of ISO 8859, U+0080 to U+009F. */
static void print_text(const char *s)
{
        for (const unsigned char *p = (const unsigned char *)s; *p; p++) {
                bool c1 = *p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0;

                putchar((*p < ' ' && *p != '\t') || *p == 0x7f || c1 ? '?' : *p);
                if (c1) {
                        putchar('?');
                        p++;
                }
        }
}

/* As a string of IMAP: NIL, quoted, or a literal. */
static void print_nstring(json_t *text)
{
        const char *s = json_string_value(text);
        size_t len = s ? strlen(s) : 0;
        bool literal = len >= 1024;

        for (const char *p = s; p && *p && !literal; p++)
                literal = (unsigned char)*p >= 0x80 || *p == '"' || *p == '%' || *p == '\\';
        if (!s) {
                printf("NIL");
        } else if (literal) {
                printf("{%zu}\r\n", len);
                print_text(s);
        } else {
                putchar('"');
                print_text(s);
                putchar('"');
        }
}

void tool_print_message(json_t *row)
{
        static const struct { const char *label, *key; } lines[] = { { "From", "from" }, { "To  ", "to" }, { "Cc  ", "cc" }, { "Bcc ", "bcc" } };
        char buf[TOOL_TIME_MAX];

        printf("UID: %" JSON_INTEGER_FORMAT "\n", json_integer_value(json_object_get(row, "uid")));
        printf("\tSize: %" JSON_INTEGER_FORMAT "\n", json_integer_value(json_object_get(row, "octets")));
        printf("\tSent: %s\n", tool_time(row, "sent", buf));
        printf("\tRecv: %s\n", tool_time(row, "received", buf));
        if (json_object_get(row, "expunged"))
                printf("\tExpg: %s\n", tool_time(row, "expunged", buf));
        for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
                printf("\t%s: ", lines[i].label);
                print_text(tool_str(row, lines[i].key));
                putchar('\n');
        }
        printf("\tSubj: ");
        print_nstring(json_object_get(row, "subject"));
        printf("\n\n");
}
