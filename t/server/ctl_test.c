/* cyrctl's command line and its tables. */
#include "server/control/ops.h"
#include "server/ctl/commands.h"
#include "server/ctl/explain.h"
#include "server/ctl/progress.h"
#include "server/ctl/table.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static const struct {
        const char *line;                       /* words separated by | */
        const char *op, *args;                  /* NULL: refused */
} lines[] = {
        { "status", "status", "{}" },
        { "sessions|kick|7f3a", "sessions.kick", "{\"session\": \"7f3a\"}" },
        { "mailbox|create|user/joe|-p|fast", "mailbox.create", "{\"mailbox\": \"user/joe\", \"partition\": \"fast\"}" },
        { "mailbox|create|-p|fast|user/joe", "mailbox.create", "{\"mailbox\": \"user/joe\", \"partition\": \"fast\"}" },
        { "mailbox|delete|-r|--|-odd", "mailbox.delete", "{\"mailbox\": \"-odd\", \"recursive\": true}" },
        { "acl|set|shared|joe|-lrs", "acl.set", "{\"mailbox\": \"shared\", \"identifier\": \"joe\", \"rights\": \"-lrs\"}" },
        { "acl|delete|shared|-joe", "acl.set", "{\"mailbox\": \"shared\", \"identifier\": \"-joe\", \"rights\": \"\"}" },
        { "mailbox|create|--partition|fast|user/joe", "mailbox.create", "{\"mailbox\": \"user/joe\", \"partition\": \"fast\"}" },
        { "mailbox|create|--partition=fast|user/joe", "mailbox.create", "{\"mailbox\": \"user/joe\", \"partition\": \"fast\"}" },
        { "mailbox|create|user/joe|--partition=", "mailbox.create", "{\"mailbox\": \"user/joe\", \"partition\": \"\"}" },
        { "mailbox|create|user/joe|--partition", "mailbox.create", NULL },
        { "mailbox|create|user/joe|--part=x", "mailbox.create", NULL },
        { "mailbox|create|user/joe|-partition", "mailbox.create", NULL },
        { "mailbox|create|-x", "mailbox.create", NULL },
        { "list|-z", "list", NULL },
        { "user|delete|-q|joe", "user.delete", NULL },
        { "metadata|set|a|/shared/comment|-1", "metadata.set", "{\"mailbox\": \"a\", \"entry\": \"/shared/comment\", \"value\": \"-1\"}" },
        { "mailbox|delete|--recursive|a", "mailbox.delete", "{\"mailbox\": \"a\", \"recursive\": true}" },
        { "mailbox|delete|--recursive=yes|a", "mailbox.delete", NULL },
        { "mailbox|delete|--|--recursive", "mailbox.delete", "{\"mailbox\": \"--recursive\"}" },
        { "mailbox|delete|\xff", "mailbox.delete", NULL },
        { "mailbox|create|a|-p|\xff", "mailbox.create", NULL },
        { "top|--count=3|-i|0.5|-u", "top", "{\"count\": \"3\", \"interval\": \"0.5\", \"users\": true}" },
        { "trace|on|joe|-t|5", "trace.on", "{\"target\": \"joe\", \"minutes\": \"5\"}" },
        { "trace", "trace.list", "{}" },
        { "check", "check", "{}" },
        { "check|shared", "check", "{\"mailbox\": \"shared\"}" },
        { "check|a|b", "check", NULL },
        { "mailbox|create", "mailbox.create", NULL },
        { "mailbox|create|x|-p", "mailbox.create", NULL },
        { "mailbox", NULL, NULL },
        { "frobnicate", NULL, NULL },
};

Test(ctl, words_become_an_operation_and_its_arguments)
{
        for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
                char copy[200], *words[16], *save = NULL, why[100];
                int n = 0, used;
                const struct ctl_command *cmd;
                json_t *args, *want;

                strcpy(copy, lines[i].line);
                for (char *w = strtok_r(copy, "|", &save); w; w = strtok_r(NULL, "|", &save))
                        words[n++] = w;
                cmd = ctl_command_find(n, words, &used);
                if (!lines[i].op) {
                        cr_expect_null(cmd, "%s", lines[i].line);
                        continue;
                }
                cr_assert_not_null(cmd, "%s", lines[i].line);
                cr_expect_str_eq(cmd->op, lines[i].op);
                args = ctl_command_args(cmd, n - used, words + used, why, sizeof why);
                if (!lines[i].args) {
                        cr_expect_null(args, "%s", lines[i].line);
                        continue;
                }
                want = json_loads(lines[i].args, 0, NULL);
                cr_expect(args && json_equal(args, want), "%s: %s", lines[i].line, args ? "other arguments" : why);
                json_decref(args);
                json_decref(want);
        }
}

Test(ctl, every_command_has_its_operation)
{
        for (size_t i = 0; i < ctl_commands_n; i++) {
                const char *op = ctl_commands[i].op;

                /* What cyrctl does itself; what is of a layer above this, and added by main.c. */
                if (!ctl_local_find(op) && strncmp(op, "sync.", 5) != 0 && strncmp(op, "failover.", 9) != 0)
                        cr_expect_not_null(ctl_op_find(op), "%s", ctl_commands[i].words);
        }
}

/* --KEY is a flag's long form: two flags of a command must not have one key or letter, nor one of cyrctl's own names. */
Test(ctl, flags_of_a_command_differ)
{
        for (size_t i = 0; i < ctl_commands_n; i++) {
                const char *const own[] = { "json", "help", "version", "config", "socket" };
                char copy[200], *save = NULL, *seen[16];
                size_t n = 0;

                strcpy(copy, ctl_commands[i].flags);
                for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
                        for (size_t k = 0; k < n; k++)
                                cr_expect(seen[k][1] != w[1] && strcmp(strchr(seen[k], '='), strchr(w, '=')) != 0, "%s: %s and %s", ctl_commands[i].words,
                                          seen[k], w);
                        for (size_t k = 0; k < sizeof own / sizeof *own; k++)
                                cr_expect_str_neq(strchr(w, '=') + 1, own[k], "%s", ctl_commands[i].words);
                        seen[n++] = w;
                }
        }
}

Test(ctl, every_option_is_explained)
{
        size_t n;
        const struct conf_option *o = conf_options(&n);

        for (size_t i = 0; i < n; i++)
                cr_expect(strlen(explain_option(&o[i])) > 5, "%s", o[i].name);
}

Test(ctl, progress_tells_rate_and_time_left)
{
        static const struct { struct progress_bar p; uint64_t now; const char *line; } cases[] = {
                { { .started_ms = 1000 }, 66000, "1:05 ..." },
                { { .unit = "messages", .first_ms = 1000, .done = 500, .total = 1000 }, 11000,
                  "[###############...............] 500/1000 messages, 50/s, 0:10 left" },
                { { .unit = "messages", .first_ms = 1000, .first_done = 500, .done = 510, .total = 10000 }, 6000,
                  "[#.............................] 510/10000 messages, 2.0/s, 1:19:05 left" },
                { { .unit = "mailboxes", .first_ms = 1000, .done = 0, .total = 7 }, 1000,
                  "[..............................] 0/7 mailboxes, 0/s, ? left" },
                { { .unit = "mailboxes", .first_ms = 1000, .done = 9, .total = 7 }, 2000,
                  "[##############################] 9/7 mailboxes, 9.0/s, 0:00 left" },
                { { .unit = "messages", .first_ms = 1000, .done = 4000 }, 3000, "4000 messages, 2000/s" },
        };

        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
                char line[200];

                progress_format(line, sizeof line, &cases[i].p, cases[i].now);
                cr_expect_str_eq(line, cases[i].line);
        }
}

Test(ctl, text_for_a_terminal_has_no_control_characters)
{
        char text[] = "a\033[31m\r\n\t\x7f\xc2\x9b""31m\xc3\xa9";

        ctl_text_clean(text);
        cr_expect_str_eq(text, "a [31m      31m\xc3\xa9");
}

Test(ctl, a_table_is_as_wide_as_its_cells_and_holds_no_control_characters)
{
        struct ctl_table *t = ctl_table_create("name=Name n=Number");
        json_t *row = json_pack("{s:s, s:f}", "name", "j\xc3\xb6rg\tx", "n", 0.069);
        char *out = NULL;
        size_t size;
        FILE *f = open_memstream(&out, &size);

        ctl_table_add(t, row);
        json_decref(row);
        row = json_pack("{s:s, s:i}", "name", "a", "n", 1234567);
        ctl_table_add(t, row);
        json_decref(row);
        ctl_table_print(t, f);
        fclose(f);
        cr_expect_str_eq(out, "Name     Number\nj\xc3\xb6rg x    0.069\na       1234567\n");
        ctl_table_destroy(&t);
        free(out);
}
