/* manual - see manual.h */
#include "server/manual.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "server/names.h"
#include "util/conf.h"

static const char *const type_names[] = { "string", "int", "switch", "duration", "enum", "set", "bytes" };
static const char *const handled_names[] = { "honoured", "later", "ignored" };

void manual_dump_options(void)
{
        size_t count;
        const struct conf_option *o = conf_options(&count);

        for (size_t i = 0; i < count; i++)
                printf("%s\t%s\t%s\t%s\n", o[i].name, type_names[o[i].type], o[i].def ? o[i].def : "-", handled_names[o[i].handled]);
}

/* roff: no line begins with a control character, backslashes and hyphens are themselves. */
static void put(const char *s)
{
        if (*s == '.' || *s == '\'')
                fputs("\\&", stdout);
        for (; *s; s++)
                if (*s == '\\')
                        fputs("\\e", stdout);
                else if (*s == '-')
                        fputs("\\-", stdout);
                else
                        putchar(*s);
}

static const char *unit_name(char unit)
{
        return unit == 'd' ? "days" : unit == 'h' ? "hours" : unit == 'm' ? "minutes" : "seconds";
}

static void put_option(const struct conf_option *o)
{
        fputs(".TP\n.B ", stdout);
        put(o->name);
        printf("\n(%s%s%s", type_names[o->type], o->unit ? ", a bare number is in " : "", o->unit ? unit_name(o->unit) : "");
        fputs("; default: ", stdout);
        put(!o->def ? "unset" : *o->def ? o->def : "empty");
        fputs(")\n", stdout);
        if (o->purpose) {
                put(o->purpose);
                putchar('\n');
        }
        if (o->values) {
                fputs("Values: ", stdout);
                put(o->values);
                fputs(".\n", stdout);
        }
}

static void put_list(enum conf_handled handled)
{
        size_t count, n = 0;
        const struct conf_option *o = conf_options(&count);

        for (size_t i = 0; i < count; i++)
                if (o[i].handled == handled) {
                        if (n++ > 0)
                                fputs(",\n", stdout);
                        put(o[i].name);
                }
        fputs(".\n", stdout);
}

static const char head[] =
        ".\\\" Made from util/conf_options.c by `make man`: change it there.\n"
        ".TH IMAPD.CONF 5 \"\" \"Cyrd\" \"File formats\"\n"
        ".SH NAME\n"
        "imapd.conf \\- configuration of cyrd and its programs\n"
        ".SH DESCRIPTION\n"
        "One option a line:\n"
        ".PP\n"
        ".RS\n"
        ".IR option : \" value\"\n"
        ".RE\n"
        ".PP\n"
        "Blanks in front of the option and around the value are ignored. A line that begins with # is a comment; there are no\n"
        "comments after values. A line that ends in a backslash is continued on the next one. An option may stand in the file once.\n"
        ".PP\n"
        ".B @include:\n"
        ".I file\n"
        "reads another file at this place; a relative name is looked for beside the including file.\n"
        ".PP\n"
        "In front of every option the name of a service of\n"
        ".BR cyrus.conf (5)\n"
        "may stand, with an underscore between:\n"
        ".I imap_timeout\n"
        "is for the service imap only, and wins over\n"
        ".I timeout\n"
        "wherever it stands.\n"
        ".PP\n"
        "A\n"
        ".B switch\n"
        "is yes, on, true, 1 or no, off, false, 0. A\n"
        ".B duration\n"
        "is a sum of numbers with the units d, h, m and s, like 1h30m; a bare number at the end has the unit of the option. An\n"
        ".B int\n"
        "is decimal, octal with 0 or hexadecimal with 0x in front. A size in\n"
        ".B bytes\n"
        "may end in K, M or G. A value of a string option may begin with {configdirectory}.\n"
        ".PP\n"
        ".B cyrd \\-t\n"
        "checks the file. A value out of its type ends the start; an unknown option is reported and has no effect.\n"
        ".SH OPTIONS WITHOUT A FIXED NAME\n"
        ".TP\n"
        ".BI partition\\- NAME\n"
        "The directory of a partition. There must be at least one, and the one that defaultpartition names.\n"
        ".TP\n"
        ".BI sasl_ NAME\n"
        "Handed to the SASL library as option NAME: sasl_pwcheck_method, sasl_mech_list, sasl_auxprop_plugin, sasl_sasldb_path,\n"
        "sasl_saslauthd_path and so on. Where sasldb alone decides (sasl_pwcheck_method: auxprop, sasl_auxprop_plugin: sasldb), a password that\n"
        "was right is known until the file changes, as a keyed hash in memory.\n"
        ".TP\n"
        ".BI xlist\\- FLAG\n"
        "The folder that gets this special use when it is made automatically: xlist\\-sent: Sent.\n"
        ".TP\n"
        ".B autocreate_acl\n"
        "FOLDER IDENTIFIER RIGHTS: rights added to a folder that is made automatically. May stand more than once.\n"
        ".SH OPTIONS\n";

void manual_write_options(void)
{
        size_t count;
        const struct conf_option *o = conf_options(&count);

        fputs(head, stdout);
        for (size_t i = 0; i < count; i++)
                if (o[i].handled == CONF_HONOURED)
                        put_option(&o[i]);
        fputs(".SH OPTIONS WITHOUT EFFECT YET\nThese are accepted and checked; what they control is not built yet.\n.PP\n", stdout);
        put_list(CONF_LATER);
        fputs(".SH OPTIONS WITHOUT A MEANING HERE\nThese are accepted and checked, so that a file written for Cyrus can stay as it is.\n",
              stdout);
        for (size_t i = 0; i < count; i++)
                if (o[i].handled == CONF_IGNORED) {
                        fputs(".TP\n.B ", stdout);
                        put(o[i].name);
                        putchar('\n');
                        put(o[i].purpose ? o[i].purpose : "No effect.");
                        putchar('\n');
                }
        fputs(".SH SEE ALSO\n.BR cyrd (8),\n.BR cyrus.conf (5)\n", stdout);
}

/* ---- cyrus-programs(8) ---------------------------------------------------------------------------------------------------------- */

/* What each program is for. Those that are built have pages of their own. */
static const struct { const char *name, *purpose; } purposes[] = {
        { "arbitron", "who reads which mailboxes" },
        { "backupd", "service that receives backups (csync protocol)" },
        { "chk_cyrus", "compares mailboxes with what the mailbox list says" },
        { "ctl_backups", "lists, checks, compacts backups" },
        { "ctl_conversationsdb", "conversation databases" },
        { "ctl_cyrusdb", "recovery and checkpoints of databases" },
        { "ctl_deliver", "the database of deliveries" },
        { "ctl_mboxlist", "dumps, loads and checks the mailbox list" },
        { "ctl_zoneinfo", "time zones of calendars" },
        { "cvt_cyrusdb", "converts databases between Cyrus's formats" },
        { "cvt_xlist_specialuse", "special uses of old mailboxes" },
        { "cyr_backup", "looks into backups" },
        { "cyr_buildinfo", "what is built in, as JSON" },
        { "cyr_dbtool", "looks into databases of Cyrus's formats" },
        { "cyr_deny", "keeps a user out of services" },
        { "cyr_df", "how full partitions are" },
        { "cyr_expire", "lets go of expunged messages, deleted mailboxes and old entries of databases" },
        { "cyr_info", "options in force, who is connected" },
        { "cyr_ls", "lists mailbox directories by the mailboxes' names" },
        { "cyr_pwd", "which mailbox a directory is" },
        { "cyr_synclog", "puts an entry into the replication log" },
        { "cyr_userseen", "a user's states of what is read" },
        { "cyr_virusscan", "scans mailboxes" },
        { "cyr_withlock_run", "runs a command with a user locked" },
        { "dav_reconstruct", "databases of calendars and address books" },
        { "deliver", "delivers a message from standard input" },
        { "fetchnews", "fetches articles from a news server" },
        { "fud", "service that tells when mail was read (finger)" },
        { "httpd", "service for calendars, address books, JMAP" },
        { "idled", "tells processes of news in mailboxes" },
        { "imapd", "IMAP service" },
        { "ipurge", "deletes messages by age or size" },
        { "lmtpd", "LMTP service" },
        { "lmtpproxyd", "LMTP service of a Murder frontend" },
        { "masssievec", "compiles all Sieve scripts" },
        { "mbexamine", "shows the records of a mailbox" },
        { "mbpath", "the directories of a mailbox" },
        { "mbtool", "repairs dates of mailboxes" },
        { "mkimap", "makes directories for a new server" },
        { "mupdate", "service that keeps the mailbox list of a Murder" },
        { "nntpd", "news service" },
        { "notifyd", "service that passes notifications on" },
        { "pop3d", "POP3 service" },
        { "pop3proxyd", "POP3 service of a Murder frontend" },
        { "promstatsd", "collects statistics for Prometheus" },
        { "proxyd", "IMAP service of a Murder frontend" },
        { "ptdump", "shows the cache of groups" },
        { "ptexpire", "empties the cache of groups" },
        { "ptloader", "service that looks groups up" },
        { "quota", "quota roots and their usage" },
        { "reconstruct", "rebuilds mailboxes" },
        { "relocate_by_id", "moves mailboxes to directories named by id" },
        { "restore", "brings mail back from a backup" },
        { "sievec", "compiles a Sieve script" },
        { "sieved", "shows a compiled Sieve script" },
        { "smmapd", "service that answers a mail server whether a recipient exists" },
        { "squatter", "search indexes" },
        { "sync_client", "replication, the sending side" },
        { "sync_reset", "removes a user from a replica" },
        { "sync_server", "service for replication, the receiving side" },
        { "timsieved", "ManageSieve service" },
        { "tls_prune", "empties the cache of TLS sessions" },
        { "unexpunge", "brings expunged messages back" },
};

const char *manual_program_purpose(const char *name)
{
        for (size_t i = 0; i < sizeof purposes / sizeof *purposes; i++)
                if (strcmp(purposes[i].name, name) == 0)
                        return purposes[i].purpose;
        return NULL;
}

/* "who reads which mailboxes" → "Who reads which mailboxes." */
static void put_sentence(const char *s)
{
        char first[2] = { s ? ascii_upper(*s) : '?', '\0' };

        put(first);
        put(s ? s + 1 : "");
        puts(".");
}

static void put_programs(bool built)
{
        size_t n;
        const struct program *p = program_table(&n);

        for (size_t i = 0; i < n; i++) {
                if (p[i].built != built)
                        continue;
                printf(built ? ".TP\n.BR " : ".TP\n.B ");
                put(p[i].name);
                puts(built ? " (8)" : "");
                put_sentence(manual_program_purpose(p[i].name));
        }
}

void manual_write_programs(void)
{
        fputs(".\\\" Made from server/names.c and server/manual.c by `make man`: change it there.\n"
              ".TH CYRUS\\-PROGRAMS 8 \"\" \"Cyrd\" \"System administration\"\n"
              ".SH NAME\n"
              "cyrus\\-programs \\- Cyrus's programs, and what they are with cyrd\n"
              ".SH DESCRIPTION\n"
              ".B make install\n"
              "puts a link of each name into\n"
              ".IR lib/cyrus/bin ;\n"
              "the program is\n"
              ".BR cyrd (8)\n"
              "under that name. As a\n"
              ".B cmd\n"
              "of\n"
              ".BR cyrus.conf (5)\n"
              "a service is served inside the daemon.\n"
              ".SH BUILT\n", stdout);
        put_programs(true);
        fputs(".SH NOT BUILT YET\n"
              "Started, these say so and exit with 1. The port of such a service is held, and clients are refused in the form of its protocol;\n"
              "such an entry of START, EVENTS or DAEMON is left out with a line in the log.\n", stdout);
        put_programs(false);
        fputs(".SH EXIT STATUS\nThat of a program is on its page; 1 of those that are not built.\n"
              ".SH SEE ALSO\n.BR cyrd (8),\n.BR cyrctl (8),\n.BR cyrus.conf (5)\n", stdout);
}
