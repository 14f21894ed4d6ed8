/* manual - see manual.h */
#include "server/manual.h"

#include <stdio.h>
#include <string.h>

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
        "sasl_saslauthd_path and so on.\n"
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
