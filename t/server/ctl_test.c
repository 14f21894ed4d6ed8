/* cyrctl's command line and its tables. */
#include "server/control/ops.h"
#include "server/ctl/commands.h"
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

                if (strcmp(op, "import") != 0 && strcmp(op, "export") != 0)     /* these two are cyrctl's own work, with operations */
                        cr_expect_not_null(ctl_op_find(op), "%s", ctl_commands[i].words);
        }
}

Test(ctl, a_table_is_as_wide_as_its_cells_and_holds_no_control_characters)
{
        struct ctl_table *t = ctl_table_create("name=Name n=Number");
        json_t *row = json_pack("{s:s, s:i}", "name", "j\xc3\xb6rg\tx", "n", 5);
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
        cr_expect_str_eq(out, "Name     Number\nj\xc3\xb6rg x        5\na       1234567\n");
        ctl_table_destroy(&t);
        free(out);
}
