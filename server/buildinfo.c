/* buildinfo - see buildinfo.h */
#include "server/buildinfo.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "util/array.h"

struct fact { const char *group, *name; bool works; };

/* In the order they are printed, the groups together. */
static const struct fact facts[] = {
        { "component", "event_notification", false },
        { "component", "gssapi", false },
        { "component", "autocreate", true },
        { "component", "idled", true },
        { "component", "httpd", false },
        { "component", "kerberos_v4", false },
        { "component", "murder", false },
        { "component", "nntpd", false },
        { "component", "replication", false },
        { "component", "sieve", false },
        { "component", "calalarmd", false },
        { "component", "jmap", false },
        { "component", "objectstore", false },
        { "component", "backup", false },
        { "dependency", "openssl", false },
        { "dependency", "gnutls", true },
        { "dependency", "zlib", true },
        { "dependency", "jansson", true },
        { "dependency", "pcre2", false },
        { "dependency", "ldap", false },
        { "dependency", "clamav", false },
        { "dependency", "ical", false },
        { "dependency", "icu4c", false },
        { "dependency", "libxml2", false },
        { "dependency", "nghttp2", false },
        { "dependency", "brotli", false },
        { "dependency", "cld2", false },
        { "dependency", "chardet", false },
        { "dependency", "wslay", false },
        { "dependency", "zstd", false },
        { "dependency", "xapian", false },
        { "database", "berkeley", true },
        { "database", "mysql", false },
        { "database", "pgsql", false },
        { "database", "sqlite", false },
        { "search", "squat", false },
        { "search", "xapian", false },
};

void buildinfo_each(void (*fn)(void *ctx, const char *group, const char *name, bool works), void *ctx)
{
        for (size_t i = 0; i < ARRAY_LEN(facts); i++)
                fn(ctx, facts[i].group, facts[i].name, facts[i].works);
}

static void print_json(bool pretty)
{
        const char *group = "", *begin = pretty ? "\n" : "", *next = pretty ? ",\n" : ", ", *in = pretty ? "  " : "";

        for (size_t i = 0; i < ARRAY_LEN(facts); i++) {
                bool first = strcmp(facts[i].group, group) != 0;

                if (first && i > 0)
                        printf("%s%s}%s", begin, in, next);
                if (first)
                        printf("%s%s%s\"%s\": {%s", i == 0 ? "{" : "", i == 0 ? begin : "", in, facts[i].group, begin);
                printf("%s%s%s\"%s\": %s", first ? "" : next, in, in, facts[i].name, facts[i].works ? "true" : "false");
                group = facts[i].group;
        }
        printf("%s%s}%s}\n", begin, in, begin);
}

int buildinfo_main(int argc, char **argv)
{
        const char *format;
        int opt;

        while ((opt = getopt(argc, argv, "C:")) != -1)
                if (opt == '?')
                        return 64;
        format = optind < argc ? argv[optind] : "pretty";
        if (strcmp(format, "flat") == 0) {
                for (size_t i = 0; i < ARRAY_LEN(facts); i++)
                        printf("%s.%s=%s\n", facts[i].group, facts[i].name, facts[i].works ? "true" : "false");
        } else if (strcmp(format, "dense") == 0 || strcmp(format, "pretty") == 0) {
                print_json(*format == 'p');
        } else {
                fprintf(stderr, "usage: cyr_buildinfo [-C imapd.conf] [pretty | dense | flat]\n");
                return 64;
        }
        return fflush(stdout) == 0 ? 0 : 1;
}
