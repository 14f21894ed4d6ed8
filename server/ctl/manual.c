/* manual - see manual.h */
#include "server/ctl/manual.h"

#include <stdio.h>
#include <string.h>

#include "util/array.h"
#include "util/str.h"

/* What the page says of a command beyond the table's help, as roff. */
static const struct { const char *words, *more; } details[] = {
        { "top",
          "Of each session (\\-u: user) the octets that it sends and gets in a second are shown, and of the daemon what it does in a second.\n"
          "On a terminal all is shown again every 2 seconds, or\n.IR interval ,\nuntil \\fBq\\fR is pressed; \\fBu\\fR changes between sessions and users,\n"
          "\\fBs\\fR sorts by something else. Elsewhere, and with\n.BR \\-\\-json ,\nit is shown once, or\n.I count\ntimes (0: until it is ended).\n" },
        { "info", "Version, files, libraries, features, programs.\n" },
        { "trace", "See TELEMETRY in\n.BR cyrd (8).\n" },
        { "trace on", "A session is named as in\n.BR sessions .\n" },
        { "trace follow",
          "It ends by itself when the session has ended or the time is over. On a terminal control characters are shown as \\ex and two digits.\n"
          "The files are read with the rights of whoever runs it.\n" },
        { "metrics", "The same text as /metrics where \\fBmetrics_listen\\fR says.\n" },
        { "metadata list", "See RFC 5464.\n" },
        { "metadata set", "The rules are those of an administrator's SETMETADATA.\n" },
        { "quota", "Storage is in KiB.\n" },
        { "quota set", "A root that does not exist is made.\n" },
        { "expire",
          "Times may also be written 12h, 30m. The entry is\n.IR /vendor/cmu/cyrus\\-imapd/expire ;\nsee\n.BR cyr_expire (8).\n"
          "Of one user, or of the mailboxes whose names begin so; \\fB\\-t\\fR: keywords that no message has are forgotten.\n" },
        { "sync",
          "Lag is the age in seconds of the oldest change that the replica has not, events how many changes wait. What is in quarantine does not count.\n"
          "The states are connecting, waiting (until it is tried again to connect), idle, busy, comparing (everything), ended, and not started.\n" },
        { "sync now",
          "Waited for is also what was put off because somebody else is at it on the replica, and comparing that is under way; not what is in quarantine.\n"
          "It ends with an error when the replica cannot be reached, or after 300 seconds without an end.\n" },
        { "sync retry", "An item is two or three words, so it has to be quoted.\n" },
        { "sync verify",
          "What differs at first is looked at again when the changes under way have arrived. Nothing is changed; exit status 1: there are differences.\n" },
        { "failover",
          "The other host, sync_host, is asked to hand over first. If it cannot be reached, this one is promoted when it is known to have all that was acknowledged: the master is\n"
          "synchronous with sync_degrade_after: never. UIDs and modification sequences are raised then. See\n.BR cyrd\\-failover (7).\n" },
        { "failover status", "Exit status 0 in each role. Promotable: a promotion without the master would lose nothing; missing says why not.\n" },
        { "expunged", "All, or those of a set like 1:5,7.\n" },
        { "purge",
          "Users' mailboxes are left alone without \\fB\\-f\\fR. \\fB\\-n\\fR: nothing is expunged, only counted.\n" },
        { "import",
          "Messages come with their flags, keywords and dates, folders (Maildir++, or directories) below\n.IR mailbox ;\n"
          "what is called INBOX at the top of a directory goes to the mailbox itself.\n"
          "Also after it was cut short it can be run again: a message that is there already is not brought twice.\n"
          "The files are read with the rights of whoever runs it.\n" },
        { "export",
          "Folders are written as Maildir++. Mbox files are called by their folders, INBOX the mailbox itself; those below Lists are in a\n"
          "directory Lists.sbd, as in Thunderbird; a first dot or & of a name is written as in a Maildir (&AC4\\-, &\\-).\n"
          "Run again, a Maildir is completed. What an import brought goes out with the same octets, flags and\n"
          "dates; a Maildir has letters for 26 keywords, and \\(lqkeywords_lost\\(rq counts those beyond.\n" },
        { "config check",
          "No daemon and no store are needed. A key is\n.BR honoured ;\n\\fBtranslated\\fR (an old name, or what it amounts to where there is one process);\n"
          "\\fBlater\\fR (what it controls is not built yet); \\fBignored\\fR (it has no meaning here); \\fBunknown\\fR (most likely a slip of the pen)\n"
          "or \\fBwrong\\fR (no value of this option). Passwords are not shown. The exit status is 1 if the daemon would refuse the files or\n"
          "warn of something in them; that a key is translated, ignored or for later is no fault.\n" },
};

void ctl_command_synopsis(const struct ctl_command *cmd, char *buf, size_t size)
{
        size_t n = (size_t)snprintf(buf, size, "%s", cmd->words);

        for (const char *p = cmd->flags; *p && n < size;) {
                size_t len = strcspn(p, " ");

                if (p[2] == ':')
                        n += (size_t)snprintf(buf + n, size - n, " [-%c %.*s]", p[1], (int)(len - 4), p + 4);
                else
                        n += (size_t)snprintf(buf + n, size - n, " [-%c]", p[1]);
                p += len + (p[len] == ' ');
        }
        if (n < size)
                snprintf(buf + n, size - n, "%s%s", *cmd->args ? " " : "", cmd->args);
}

/* A sentence of the table as roff: it begins with a capital letter and ends with a full stop. */
static void put_sentence(const char *s)
{
        if (*s == '.' || *s == '\'')
                fputs("\\&", stdout);
        putchar(ascii_upper(*s));
        for (s++; *s; s++)
                if (*s == '\\')
                        fputs("\\e", stdout);
                else if (*s == '-')
                        fputs("\\-", stdout);
                else
                        putchar(*s);
        fputs(".\n", stdout);
}

static void put_synopsis(const char *s)
{
        for (; *s; s++)
                fputs(*s == '-' ? "\\-" : (char[]){ *s, '\0' }, stdout);
        putchar('\n');
}

void ctl_manual_commands(void)
{
        for (size_t i = 0; i < ctl_commands_n; i++) {
                char synopsis[300];

                ctl_command_synopsis(&ctl_commands[i], synopsis, sizeof synopsis);
                fputs(".TP\n.B ", stdout);
                put_synopsis(synopsis);
                put_sentence(ctl_commands[i].help);
                for (size_t k = 0; k < ARRAY_LEN(details); k++)
                        if (strcmp(details[k].words, ctl_commands[i].words) == 0)
                                fputs(details[k].more, stdout);
        }
}
