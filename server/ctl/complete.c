/* complete - see complete.h */
#include "server/ctl/complete.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/ctl/client.h"
#include "server/ctl/commands.h"
#include "server/ctl/table.h"
#include "util/array.h"
#include "util/conf.h"
#include "util/hash.h"
#include "util/must.h"

#define ANSWER_S 2                              /* nobody waits longer for a TAB */
#define CANDIDATES_MAX 1000

struct completion {
        const char *prefix;                     /* what stands there already */
        const char *lead;                       /* put in front of each candidate: "--partition=" */
        const char *config;
        struct table *seen;                     /* each once */
        unsigned n;
        const char *key;                        /* of rows: what is a candidate */
        struct ctl_client client;
        bool connected;
};

static const char bash_script[] =
        "# bash completion for cyrctl, made by `cyrctl --completion bash`.\n"
        "_cyrctl()\n"
        "{\n"
        "        local words=() word line lead='' i\n"
        "        # bash takes --key=value apart: together again, and of the answer only what is behind the =.\n"
        "        for ((i = 1; i <= COMP_CWORD; i++)); do\n"
        "                word=${COMP_WORDS[i]}\n"
        "                if [[ $word == = && ${#words[@]} -gt 0 && ${words[-1]} == --* ]]; then\n"
        "                        words[-1]+==\n"
        "                        lead=${words[-1]}\n"
        "                elif [[ -n $lead && ${#words[@]} -gt 0 && ${words[-1]} == \"$lead\" ]]; then\n"
        "                        words[-1]+=$word\n"
        "                else\n"
        "                        words+=(\"$word\")\n"
        "                        lead=''\n"
        "                fi\n"
        "        done\n"
        "        [[ ${words[-1]} == \"$lead\"* ]] || lead=''\n"
        "        COMPREPLY=()\n"
        "        while IFS= read -r line; do\n"
        "                line=${line%%$'\\t'*}\n"
        "                if [[ $line == :files ]]; then\n"
        "                        compopt -o filenames 2>/dev/null\n"
        "                        while IFS= read -r line; do COMPREPLY+=(\"$line\"); done < <(compgen -f -- \"${words[-1]#\"$lead\"}\")\n"
        "                else\n"
        "                        COMPREPLY+=(\"$(printf %q \"${line#\"$lead\"}\")\")\n"
        "                fi\n"
        "        done < <(\"${COMP_WORDS[0]}\" --complete -- \"${words[@]}\" 2>/dev/null)\n"
        "}\n"
        "complete -F _cyrctl cyrctl\n";

static const char zsh_script[] =
        "#compdef cyrctl\n"
        "# zsh completion for cyrctl, made by `cyrctl --completion zsh`.\n"
        "local -a lines values shown\n"
        "local line\n"
        "lines=(\"${(@f)$(${(Q)words[1]} --complete -- \"${(@Q)words[2,CURRENT]}\" 2>/dev/null)}\")\n"
        "for line in $lines; do\n"
        "        if [[ $line == :files ]]; then\n"
        "                _files\n"
        "                continue\n"
        "        fi\n"
        "        values+=(\"${line%%$'\\t'*}\")\n"
        "        shown+=(\"${line/$'\\t'/  -- }\")\n"
        "done\n"
        "(( $#values )) && compadd -l -d shown -a values\n";

bool complete_script(const char *shell)
{
        const char *script = strcmp(shell, "bash") == 0 ? bash_script : strcmp(shell, "zsh") == 0 ? zsh_script : NULL;

        if (script)
                fputs(script, stdout);
        return script != NULL;
}

/* ---- candidates --------------------------------------------------------------------------------------------------------------- */

static void offer_span(struct completion *c, struct span text, const char *about)
{
        if (c->n >= CANDIDATES_MAX || text.len < strlen(c->prefix) || memcmp(text.p, c->prefix, strlen(c->prefix)) != 0 ||
            memchr(text.p, '\n', text.len) || memchr(text.p, '\t', text.len) || table_set(c->seen, text, c))
                return;
        c->n++;
        printf("%s%.*s%s%s\n", c->lead, (int)text.len, text.p, about ? "\t" : "", about ? about : "");
}

static void offer(struct completion *c, const char *text, const char *about)
{
        offer_span(c, span_of(text), about);
}

static void take_row(void *ctx, json_t *row)
{
        struct completion *c = ctx;
        const char *text = json_string_value(json_object_get(row, c->key)), *protocol = json_string_value(json_object_get(row, "protocol"));

        if (text && *text && (!protocol || strcmp(protocol, "control") != 0))           /* not our own session */
                offer(c, text, NULL);
}

/* What the running daemon has. */
static void ask(struct completion *c, const char *op, const char *key, json_t *args)
{
        struct diag diag = DIAG_INIT;
        struct err err = ERR_INIT;

        if (!c->client.conf && conf_load(c->config, NULL, &c->client.conf, &diag, &err) == 0) {
                c->client.row = take_row;
                c->client.ctx = c;
                alarm(ANSWER_S);
                c->connected = ctl_client_connect(&c->client, &err) == 0;
        }
        diag_deinit(&diag);
        c->key = key;
        if (c->connected)
                ctl_client_call(&c->client, op, args, &err);
        else
                json_decref(args);
}

static void offer_mailboxes(struct completion *c)
{
        char pattern[600];

        if (strpbrk(c->prefix, "*%") || (size_t)snprintf(pattern, sizeof pattern, "%s*", c->prefix) >= sizeof pattern)
                return;
        ask(c, "list", "mailbox", json_pack("{s:s, s:i}", "pattern", pattern, "limit", CANDIDATES_MAX));
}

static void offer_users(struct completion *c)
{
        ask(c, "user.list", "user", json_object());
}

static void offer_sessions(struct completion *c)
{
        ask(c, "sessions", "session", json_object());
}

static void offer_options(struct completion *c)
{
        size_t n;
        const struct conf_option *o = conf_options(&n);

        for (; n--; o++)
                offer(c, o->name, o->purpose);
}

static void offer_partitions(struct completion *c)
{
        struct diag diag = DIAG_INIT;
        struct err err = ERR_INIT;
        struct conf *conf = NULL;
        const char *name, *value;
        size_t pos = 0;

        if (conf_load(c->config, NULL, &conf, &diag, &err) == 0)
                while (conf_next(conf, "partition-", &pos, &name, &value))
                        offer(c, name + strlen("partition-"), value);
        conf_unref(&conf);
        diag_deinit(&diag);
}

static void offer_words(struct completion *c, const char *const *words, size_t n)
{
        for (size_t i = 0; i < n; i++)
                offer(c, words[i], NULL);
}

/* By the name that an argument, or a flag's value, has in the table. */
static void offer_value(struct completion *c, struct span key)
{
        static const char *const uses[] = { "\\Archive", "\\Drafts", "\\Important", "\\Junk", "\\Sent", "\\Snoozed", "\\Trash" };
        static const char *const sorts[] = { "rate", "in", "out", "idle", "age", "user" };
        static const char *const files[] = { "path", "imapd.conf", "cyrus.conf" };

        for (size_t i = 0; i < ARRAY_LEN(files); i++)
                if (span_eq_str(key, files[i])) {
                        puts(":files");
                        return;
                }
        if (span_eq_str(key, "mailbox") || span_eq_str(key, "pattern") || span_eq_str(key, "root"))
                offer_mailboxes(c);
        else if (span_eq_str(key, "user"))
                offer_users(c);
        else if (span_eq_str(key, "session"))
                offer_sessions(c);
        else if (span_eq_str(key, "target"))
                offer_users(c), offer_sessions(c);
        else if (span_eq_str(key, "identifier"))
                offer_words(c, (const char *const[]){ "anyone", "anonymous" }, 2), offer_users(c);
        else if (span_eq_str(key, "option"))
                offer_options(c);
        else if (span_eq_str(key, "partition"))
                offer_partitions(c);
        else if (span_eq_str(key, "specialuse"))
                offer_words(c, uses, ARRAY_LEN(uses));
        else if (span_eq_str(key, "sort"))
                offer_words(c, sorts, ARRAY_LEN(sorts));
}

/* ---- commands, flags, arguments ------------------------------------------------------------------------------------------------- */

struct flag { char letter; struct span key; bool value; };

static bool next_flag(const char **at, struct flag *f)
{
        const char *p = *at;
        size_t len = strcspn(p, " "), head;

        if (!*p)
                return false;
        f->letter = p[1];
        f->value = p[2] == ':';
        head = f->value ? 4 : 3;
        f->key = (struct span){ p + head, len - head };
        *at = p + len + (p[len] == ' ');
        return true;
}

/* The flag that `word` names, with a "=" behind it or without. */
static bool flag_of(const struct ctl_command *cmd, const char *word, struct flag *f)
{
        for (const char *at = cmd->flags; next_flag(&at, f);)
                if ((word[0] == '-' && word[1] == f->letter && !word[2]) ||
                    (strncmp(word, "--", 2) == 0 && span_eq(f->key, (struct span){ word + 2, strcspn(word + 2, "=") })))
                        return true;
        return false;
}

static void offer_flags(struct completion *c, const struct ctl_command *cmd)
{
        struct flag f;
        char text[64];

        for (const char *at = cmd->flags; next_flag(&at, &f);) {
                snprintf(text, sizeof text, "-%c", f.letter);
                offer(c, text, NULL);
                snprintf(text, sizeof text, "--%.*s", (int)f.key.len, f.key.p);
                offer(c, text, NULL);
        }
        offer(c, "--json", "a row of JSON a line");
        offer(c, "--help", NULL);
}

/* The n-th positional argument's name, without its brackets. */
static struct span argument_name(const struct ctl_command *cmd, unsigned n)
{
        const char *p = cmd->args;

        while (*p) {
                size_t len = strcspn(p, " ");

                if (n-- == 0)
                        return *p == '[' ? (struct span){ p + 1, len - 2 } : (struct span){ p, len };
                p += len + (p[len] == ' ');
        }
        return (struct span){ NULL, 0 };
}

/* The words behind a command, the last of them being completed. */
static void complete_arguments(struct completion *c, const struct ctl_command *cmd, int argc, char *const *argv)
{
        const char *now = argv[argc - 1];
        bool only_words = false;
        unsigned positional = 0;
        struct flag f;

        for (int i = 0; i < argc - 1; i++) {
                if (!only_words && strcmp(argv[i], "--") == 0) {
                        only_words = true;
                } else if (!only_words && strcmp(argv[i], "--json") == 0) {
                        continue;
                } else if (!only_words && flag_of(cmd, argv[i], &f)) {
                        if (f.value && !strchr(argv[i], '=') && ++i == argc - 1) {
                                offer_value(c, f.key);
                                return;
                        }
                } else {
                        positional++;
                }
        }
        if (!only_words && now[0] == '-') {
                if (strncmp(now, "--", 2) == 0 && strchr(now, '=') && flag_of(cmd, now, &f) && f.value) {
                        char *lead = xstrndup(now, strcspn(now, "=") + 1);

                        c->prefix = strchr(now, '=') + 1;
                        c->lead = lead;
                        offer_value(c, f.key);
                        c->lead = "";
                        free(lead);
                        return;
                }
                offer_flags(c, cmd);
        }
        offer_value(c, argument_name(cmd, positional));
}

/* The next word of every command that begins with these. */
static void complete_command(struct completion *c, int argc, char *const *argv)
{
        for (size_t i = 0; i < ctl_commands_n; i++) {
                const char *words = ctl_commands[i].words;
                int k = 0;
                size_t len;

                for (; k < argc - 1 && *words; k++) {
                        len = strcspn(words, " ");
                        if (strlen(argv[k]) != len || memcmp(argv[k], words, len) != 0)
                                break;
                        words += len + (words[len] == ' ');
                }
                len = strcspn(words, " ");
                if (k == argc - 1 && len)
                        offer_span(c, (struct span){ words, len }, words[len] ? NULL : ctl_commands[i].help);
        }
}

static void complete_global_flags(struct completion *c)
{
        static const char *const flags[] = { "-C", "--config", "-S", "--socket", "--json", "--help", "--version" };

        offer_words(c, flags, ARRAY_LEN(flags));
}

void complete_words(int argc, char **argv)
{
        struct completion c = { .prefix = argc > 0 ? argv[argc - 1] : "", .lead = "", .seen = table_create() };
        const struct ctl_command *cmd;
        int used;

        while (argc > 1 && argv[0][0] == '-') {
                bool config = strcmp(argv[0], "-C") == 0 || strcmp(argv[0], "--config") == 0;
                bool socket = strcmp(argv[0], "-S") == 0 || strcmp(argv[0], "--socket") == 0;
                int words = config || socket ? 2 : 1;

                if (words == argc) {
                        puts(":files");
                        argc = 0;
                        break;
                }
                if (config)
                        c.config = argv[1];
                if (socket)
                        c.client.socket = argv[1];
                argc -= words;
                argv += words;
        }
        if (argc > 0) {
                /* A word that is still being written may be the whole of a command's: it is no command yet. */
                cmd = ctl_command_find(argc - 1, argv, &used);
                if (argc == 1 && argv[0][0] == '-')
                        complete_global_flags(&c);
                else
                        complete_command(&c, argc, argv);
                if (cmd)
                        complete_arguments(&c, cmd, argc - used, argv + used);
        }
        ctl_client_close(&c.client);
        conf_unref(&c.client.conf);
        table_destroy(&c.seen);
        fflush(stdout);
}
