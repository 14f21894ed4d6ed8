/* ops_info - info: what this server is made of and what it goes by; for a mailbox see mailbox.info (ops_mailbox.c). */
#include <gnutls/gnutls.h>
#include <microhttpd.h>
#include <pwd.h>
#include <sasl/sasl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>
#include <utf8proc.h>
#include <zlib.h>

#include "server/buildinfo.h"
#include "server/control/ops.h"
#include "server/metrics.h"
#include "server/names.h"
#include "server/version.h"
#include "store/db.h"

static void setting(struct ctl_call *call, const char *name, const char *value)
{
        call->row(call, json_pack("{s:s, s:s, s:s}", "kind", "server", "name", name, "value", value ? value : ""));
}

static void setting_number(struct ctl_call *call, const char *name, uint64_t value)
{
        char text[32];

        snprintf(text, sizeof text, "%llu", (unsigned long long)value);
        setting(call, name, text);
}

static void library(struct ctl_call *call, const char *name, const char *version)
{
        call->row(call, json_pack("{s:s, s:s, s:s}", "kind", "library", "name", name, "version", version ? version : "?"));
}

static void libraries(struct ctl_call *call)
{
        const char *implementation = NULL, *sasl = NULL;

        sasl_version_info(&implementation, &sasl, NULL, NULL, NULL, NULL);
        library(call, "berkeley db", db_library_version());
        library(call, "cyrus-sasl", sasl);
        library(call, "gnutls", gnutls_check_version(NULL));
        library(call, "jansson", JANSSON_VERSION);
        library(call, "libmicrohttpd", MHD_get_version());
        library(call, "utf8proc", utf8proc_version());
        library(call, "zlib", zlibVersion());
}

static void feature(void *ctx, const char *group, const char *name, bool works)
{
        struct ctl_call *call = ctx;

        call->row(call, json_pack("{s:s, s:s, s:s, s:b}", "kind", "feature", "group", group, "name", name, "built", works));
}

static void programs(struct ctl_call *call)
{
        static const char *const kinds[] = { [PROGRAM_SERVICE] = "service", [PROGRAM_TOOL] = "tool", [PROGRAM_DAEMON] = "daemon" };
        size_t n;
        const struct program *p = program_table(&n);

        for (size_t i = 0; i < n; i++)
                call->row(call, json_pack("{s:s, s:s, s:s, s:b}", "kind", "program", "program", p[i].name, "as", kinds[p[i].kind], "built", p[i].built));
}

int ctl_info(struct ctl_call *call, struct err *err)
{
        struct conf *conf = call->conf;
        struct passwd pw, *found = NULL;
        struct rlimit files;
        char buf[4096];

        (void)err;
        setting(call, "version", CYRD_VERSION);
        setting(call, "compatible with", "Cyrus IMAP " CYRUS_COMPAT);
        setting(call, "state", call->in_daemon ? "running" : "stopped");
        if (call->in_daemon) {
                struct metrics_now now;

                metrics_look(&now);
                setting_number(call, "pid", (uint64_t)getpid());
                setting_number(call, "uptime_s", now.uptime_s);
                setting_number(call, "workers", now.engine.workers);
                if (getpwuid_r(geteuid(), &pw, buf, sizeof buf, &found) == 0 && found)
                        setting(call, "user", found->pw_name);
                if (getrlimit(RLIMIT_NOFILE, &files) == 0)
                        setting_number(call, "descriptors", files.rlim_cur);
        }
        setting(call, "imapd.conf", conf_path(conf));
        setting(call, "configdirectory", conf_str(conf, NULL, "configdirectory"));
        setting(call, "defaultpartition", conf_str(conf, NULL, "defaultpartition"));
        setting(call, "control_socket", conf_str(conf, NULL, "control_socket"));
        setting(call, "servername", conf_str(conf, NULL, "servername"));
        setting(call, "admins", conf_str(conf, NULL, "admins"));
        libraries(call);
        buildinfo_each(feature, call);
        programs(call);
        return 0;
}
