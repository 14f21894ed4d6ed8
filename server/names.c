/* names - see names.h */
#include "server/names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/array.h"
#include "util/str.h"

/* Flags that every service program of Cyrus takes; -U, -T: reuse of processes; -D: a debugger; -X: a client on standard input, which needs no
 * saying here. */
#define COMMON "C:U:T:DX"
#define NOT_BUILT "this service is not built into the server"

/* Sorted by name, for bsearch(). */
static const struct program programs[] = {
        { "arbitron", PROGRAM_TOOL, true, NULL, NULL, NULL },
        { "backupd", PROGRAM_SERVICE, false, COMMON "p:", "* BYE " NOT_BUILT, NULL },
        { "chk_cyrus", PROGRAM_TOOL, false, NULL, NULL, NULL },
        { "ctl_backups", PROGRAM_TOOL, false, NULL, NULL, NULL },
        { "ctl_conversationsdb", PROGRAM_TOOL, false, NULL, NULL, NULL },
        { "ctl_cyrusdb", PROGRAM_TOOL, true, NULL, NULL, NULL },
        { "ctl_deliver", PROGRAM_TOOL, false, NULL, NULL, NULL },
        { "ctl_mboxlist", PROGRAM_TOOL, true, NULL, NULL, NULL },
        { "ctl_zoneinfo", PROGRAM_TOOL, false, NULL, NULL, NULL },
        { "cvt_cyrusdb", PROGRAM_TOOL, false, NULL, NULL, NULL },
        { "cvt_xlist_specialuse", PROGRAM_TOOL, false, NULL, NULL, NULL },
        { "cyr_backup", PROGRAM_TOOL, false, NULL, NULL, NULL },
        { "cyr_buildinfo", PROGRAM_TOOL, true, NULL, NULL, NULL },
        { "cyr_dbtool", PROGRAM_TOOL, false, NULL, NULL, NULL },
        { "cyr_deny", PROGRAM_TOOL, true, NULL, NULL, NULL },
        { "cyr_df", PROGRAM_TOOL, true, NULL, NULL, NULL },
        { "cyr_expire", PROGRAM_TOOL, true, NULL, NULL, NULL },
        { "cyr_info", PROGRAM_TOOL, true, NULL, NULL, NULL },
        { "cyr_ls", PROGRAM_TOOL, false, NULL, NULL, NULL },
        { "cyr_pwd", PROGRAM_TOOL, false, NULL, NULL, NULL },
        { "cyr_synclog", PROGRAM_TOOL, true, NULL, NULL, NULL },
        { "cyr_userseen", PROGRAM_TOOL, true, NULL, NULL, NULL },
        { "cyr_virusscan", PROGRAM_TOOL, false, NULL, NULL, NULL },
        { "cyr_withlock_run", PROGRAM_TOOL, false, NULL, NULL, NULL },
        { "dav_reconstruct", PROGRAM_TOOL, false, NULL, NULL, NULL },
        { "deliver", PROGRAM_TOOL, true, NULL, NULL, NULL },
        { "fetchnews", PROGRAM_TOOL, false, NULL, NULL, NULL },
        { "fud", PROGRAM_SERVICE, false, NULL, "", NULL },
        { "httpd", PROGRAM_SERVICE, false, NULL,
          "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n", NULL },
        { "idled", PROGRAM_DAEMON, true, NULL, NULL, "Sessions hear of news inside the daemon" },
        { "imapd", PROGRAM_SERVICE, true, COMMON "sNqp:", NULL, NULL },
        { "ipurge", PROGRAM_TOOL, true, NULL, NULL, NULL },
        { "lmtpd", PROGRAM_SERVICE, true, COMMON "a", NULL, NULL },
        { "lmtpproxyd", PROGRAM_SERVICE, false, NULL, "421 4.3.2 " NOT_BUILT, NULL },
        { "masssievec", PROGRAM_TOOL, false, NULL, NULL, NULL },
        { "mbexamine", PROGRAM_TOOL, false, NULL, NULL, NULL },
        { "mbpath", PROGRAM_TOOL, true, NULL, NULL, NULL },
        { "mbtool", PROGRAM_TOOL, false, NULL, NULL, NULL },
        { "mkimap", PROGRAM_TOOL, false, NULL, NULL, NULL },
        { "mupdate", PROGRAM_SERVICE, false, COMMON "ma", "* BYE \"" NOT_BUILT "\"", NULL },
        { "nntpd", PROGRAM_SERVICE, false, NULL, "400 " NOT_BUILT, NULL },
        { "notifyd", PROGRAM_SERVICE, false, NULL, "", NULL },
        { "pop3d", PROGRAM_SERVICE, true, COMMON "skp:", NULL, NULL },
        { "pop3proxyd", PROGRAM_SERVICE, false, NULL, "-ERR [SYS/TEMP] " NOT_BUILT, NULL },
        { "promstatsd", PROGRAM_DAEMON, false, NULL, NULL, NULL },
        { "proxyd", PROGRAM_SERVICE, false, NULL, "* BYE " NOT_BUILT, NULL },
        { "ptdump", PROGRAM_TOOL, false, NULL, NULL, NULL },
        { "ptexpire", PROGRAM_TOOL, true, NULL, NULL, "Groups are asked of the system: there is no cache of them on the disk" },
        { "ptloader", PROGRAM_SERVICE, false, NULL, "", NULL },
        { "quota", PROGRAM_TOOL, true, NULL, NULL, NULL },
        { "reconstruct", PROGRAM_TOOL, true, NULL, NULL, NULL },
        { "relocate_by_id", PROGRAM_TOOL, false, NULL, NULL, NULL },
        { "restore", PROGRAM_TOOL, false, NULL, NULL, NULL },
        { "sievec", PROGRAM_TOOL, false, NULL, NULL, NULL },
        { "sieved", PROGRAM_TOOL, false, NULL, NULL, NULL },
        { "smmapd", PROGRAM_SERVICE, false, COMMON, "46:TEMP " NOT_BUILT ",", NULL },        /* a netstring */
        { "squatter", PROGRAM_TOOL, true, NULL, NULL, "SEARCH needs no index that is made beforehand" },
        { "sync_client", PROGRAM_DAEMON, true, NULL, NULL, NULL },
        { "sync_reset", PROGRAM_TOOL, true, NULL, NULL, NULL },
        { "sync_server", PROGRAM_SERVICE, true, COMMON "p:f", NULL, NULL },
        { "timsieved", PROGRAM_SERVICE, false, COMMON, "BYE \"" NOT_BUILT "\"", NULL },
        { "tls_prune", PROGRAM_TOOL, true, NULL, NULL, "TLS sessions are resumed by tickets, which clients keep" },
        { "unexpunge", PROGRAM_TOOL, true, NULL, NULL, NULL },
};

static int compare_program(const void *name, const void *program)
{
        return strcmp(name, ((const struct program *)program)->name);
}

const struct program *program_find(const char *name)
{
        return bsearch(name, programs, ARRAY_LEN(programs), sizeof programs[0], compare_program);
}

const struct program *program_find_wrapped(const char *name)
{
        static const char *const prefixes[] = { "", "cyr_", "ctl_" };
        const struct program *p = NULL;
        char full[64];

        for (size_t i = 0; i < ARRAY_LEN(prefixes) && !p; i++)
                if ((size_t)snprintf(full, sizeof full, "%s%s", prefixes[i], name) < sizeof full)
                        p = program_find(full);
        return p || strcmp(name, "check") != 0 ? p : program_find("chk_cyrus");
}

const struct program *program_table(size_t *n_r)
{
        *n_r = ARRAY_LEN(programs);
        return programs;
}

static int parse_ssf(const char *s, int *ssf_r, struct err *err)
{
        uint64_t n;

        if (!span_u64(span_of(s), 65535, &n))
                return err_set(err, ERR_CONFIG, "-p: \"%s\" is not a number of bits", s);
        *ssf_r = (int)n;
        return 0;
}

static int apply_flag(char flag, const char *value, struct service_args *a, struct err *err)
{
        uint64_t n;

        switch (flag) {
        case 'C': a->config = value; break;
        case 's': a->tls = true; break;
        case 'a': a->preauth = true; break;
        case 'N': a->no_password = true; break;
        case 'q': a->no_quota = true; break;
        case 'm': a->master = true; break;
        case 'p': return parse_ssf(value, &a->external_ssf, err);
        case 'U':
        case 'T':
                if (!span_u64(span_of(value), 1000000000, &n))
                        return err_set(err, ERR_CONFIG, "-%c: \"%s\" is not a number", flag, value);
                if (flag == 'U')
                        a->uses = (unsigned)n;
                else
                        a->wait_s = (int)n;
                break;
        default: break;                         /* understood, without a meaning here */
        }
        return 0;
}

int service_args_parse(const struct program *program, int argc, char *const *argv, struct service_args *args_r, struct err *err)
{
        *args_r = (struct service_args){ .wait_s = -1 };
        if (!program->flags)
                return 0;
        for (int i = 1; i < argc; i++) {
                const char *word = argv[i], *flag, *value = NULL;

                if (word[0] != '-' || word[1] == '\0')
                        return err_set(err, ERR_CONFIG, "%s: unexpected argument \"%s\"", program->name, word);
                flag = word[1] == ':' ? NULL : strchr(program->flags, word[1]);
                if (!flag)
                        return err_set(err, ERR_CONFIG, "%s: unknown option -%c", program->name, word[1]);
                if (word[2] != '\0')
                        return err_set(err, ERR_CONFIG, "%s: \"%s\": options and arguments must be separate words", program->name, word);
                if (flag[1] == ':') {
                        if (++i == argc)
                                return err_set(err, ERR_CONFIG, "%s: option -%c needs an argument", program->name, *flag);
                        value = argv[i];
                }
                if (apply_flag(*flag, value, args_r, err) < 0)
                        return err_prefix(err, "%s", program->name);
        }
        return 0;
}
