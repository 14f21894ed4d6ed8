/* arbitron - how many read a mailbox, and how many have subscribed to it: a line for each mailbox, or with -l for each of them. Forms are Cyrus's. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "server/tools/tool.h"

#define DAY_S 86400

struct arbitron {
        struct tool t;
        bool old, users, long_form;             /* -o, -u, -l */
        time_t since, until;
};

static int number(const char *digits, int n)
{
        int value = 0;

        while (n--)
                value = value * 10 + (*digits++ - '0');
        return value;
}

/* "mmddyyyy": midnight of that day here. */
static bool parse_day(const char *s, time_t *out_r)
{
        struct tm tm = { .tm_isdst = -1 };

        if (strspn(s, "0123456789") != 8)
                return false;
        tm.tm_mon = number(s, 2) - 1;
        tm.tm_mday = number(s + 2, 2);
        tm.tm_year = number(s + 4, 4) - 1900;
        *out_r = mktime(&tm);                   /* the 31st of a shorter month is a day of the next one */
        return tm.tm_year >= 0 && *out_r != (time_t)-1;
}

static bool parse_range(const char *s, struct arbitron *a)
{
        if (!parse_day(s, &a->since))
                return false;
        if (s[8] == '\0')
                return true;
        return s[8] == ':' && parse_day(s + 9, &a->until) && s[17] == '\0';
}

static void print_count(const struct arbitron *a, json_t *users)
{
        json_t *user;
        size_t i;

        printf(" %zu", json_array_size(users));
        if (!a->users)
                return;
        json_array_foreach(users, i, user)
                printf("%c%s", i ? ',' : ':', json_string_value(user));
}

static void print_long(const struct arbitron *a, const char *mailbox, json_t *users, char kind)
{
        char since[32], until[32];
        json_t *user;
        size_t i;

        strftime(since, sizeof since, "%m-%d-%Y %H:%M:%S", localtime(&a->since));
        strftime(until, sizeof until, "%m-%d-%Y %H:%M:%S", localtime(&a->until));
        json_array_foreach(users, i, user)
                printf("%s,%s,%c,%s,%s\n", mailbox, json_string_value(user), kind, since, until);
}

static void print_mailbox(void *ctx, json_t *row)
{
        struct arbitron *a = ctx;
        json_t *readers = json_object_get(row, "readers"), *subscribers = json_object_get(row, "subscribers");
        const char *mailbox = tool_str(row, "mailbox");

        if (a->long_form) {
                print_long(a, mailbox, readers, 'r');
                if (!a->old)
                        print_long(a, mailbox, subscribers, 's');
                return;
        }
        printf("%s", mailbox);
        print_count(a, readers);
        if (!a->old)
                print_count(a, subscribers);
        printf("\n");
}

static void no_row(void *ctx, json_t *row)
{
        (void)ctx;
        (void)row;
}

static int run(struct arbitron *a, int months, char **patterns)
{
        json_t *list = json_array(), *args;
        struct err err = ERR_INIT;
        int rc = 0;

        for (; *patterns; patterns++)
                json_array_append_new(list, json_string(*patterns));
        args = json_pack("{s:O, s:I, s:I}", "patterns", list, "since", (json_int_t)a->since, "until", (json_int_t)a->until);
        rc = tool_call(&a->t, "readers", args, print_mailbox, a, &err);
        if (rc == 0 && months > 0) {
                args = json_pack("{s:O, s:I}", "patterns", list, "since", (json_int_t)(time(NULL) - (time_t)months * 31 * DAY_S));
                rc = tool_call(&a->t, "readers.prune", args, no_row, a, &err);
        }
        json_decref(list);
        return rc < 0 ? tool_fail(&a->t, &err) : TOOL_OK;
}

static int usage(void)
{
        fputs("usage: arbitron [-o] [-u] [-l] [-C alt_config] [-d days | -D mmddyyyy[:mmddyyyy]]\n"
              "                [-p months] [mboxpattern]...\n", stderr);
        return TOOL_USAGE;
}

int tool_arbitron_main(int argc, char **argv)
{
        struct arbitron a = { .until = time(NULL) };
        const char *config = NULL;
        int opt, months = 0, days, ret = TOOL_FAILED;

        a.since = a.until - 30 * DAY_S;
        while ((opt = getopt(argc, argv, "C:oud:D:lp:")) != -1) {
                switch (opt) {
                case 'C': config = optarg; break;
                case 'o': a.old = true; break;
                case 'u': a.users = true; break;
                case 'l': a.long_form = true; break;
                case 'd':
                        days = atoi(optarg);
                        if (days <= 0 || days > 100000)
                                return usage();
                        a.since = a.until - (time_t)days * DAY_S;
                        break;
                case 'D':
                        if (!parse_range(optarg, &a))
                                return usage();
                        break;
                case 'p':
                        months = atoi(optarg);
                        if (months <= 0 || months > 10000)
                                return usage();
                        break;
                default: return usage();
                }
        }
        if (tool_open(&a.t, "arbitron", config, TOOL_STORE) == 0)
                ret = run(&a, months, argv + optind);
        tool_close(&a.t);
        return ret;
}
