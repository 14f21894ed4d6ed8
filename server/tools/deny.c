/* cyr_deny - keep a user out of services, let him in again, list who is kept out. See server/userdeny.h. */
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#include "server/tools/tool.h"
#include "server/userdeny.h"

static void print_line(void *ctx, struct span user, struct span services, struct span message)
{
        (void)ctx;
        printf("%-30.*s %-20.*s %.*s\n", (int)user.len, user.p, (int)services.len, services.p, (int)message.len, message.p);
}

int tool_cyr_deny_main(int argc, char **argv)
{
        static const char usage[] = "usage: cyr_deny [-C imapd.conf] [-s services] [-m message] user\n"
                                    "       cyr_deny [-C imapd.conf] -a user\n"
                                    "       cyr_deny [-C imapd.conf] -l\n";
        const char *config = NULL, *services = NULL, *message = NULL;
        bool allow = false, list = false;
        struct err err = ERR_INIT;
        struct tool t;
        int opt, rc = -1;

        while ((opt = getopt(argc, argv, "C:als:m:")) != -1) {
                switch (opt) {
                case 'C': config = optarg; break;
                case 'a': allow = true; break;
                case 'l': list = true; break;
                case 's': services = optarg; break;
                case 'm': message = optarg; break;
                default: fputs(usage, stderr); return TOOL_USAGE;
                }
        }
        if (optind + !list != argc || (allow && list) || ((allow || list) && (services || message))) {
                fputs(usage, stderr);
                return TOOL_USAGE;
        }
        if (tool_open(&t, "cyr_deny", config, TOOL_STORE) < 0) {
                tool_close(&t);
                return TOOL_FAILED;
        }
        if (list) {
                printf("%-30s %-20s %s\n", "Username", "Service(s)", "Message");
                rc = userdeny_each(t.conf, print_line, NULL, &err);
        } else {
                rc = allow ? userdeny_remove(t.conf, argv[optind], &err) : userdeny_set(t.conf, argv[optind], services, message, &err);
        }
        if (rc < 0)
                tool_fail(&t, &err);
        tool_close(&t);
        return rc < 0 ? TOOL_FAILED : TOOL_OK;
}
