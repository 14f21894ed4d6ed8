/* msgfile - see msgfile.h */
#include "server/msgfile.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "util/str.h"

static bool first_line(const char *path, char line[MSGFILE_MAX])
{
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        ssize_t n;
        size_t len = 0;

        if (fd < 0)
                return false;
        n = read(fd, line, MSGFILE_MAX - 1);
        close(fd);
        for (; n > 0 && len < (size_t)n && line[len] != '\n' && line[len] != '\r'; len++)
                if ((unsigned char)line[len] < 0x20 || (unsigned char)line[len] >= 0x7f)
                        line[len] = '?';
        line[len] = '\0';
        return true;
}

bool msgfile_shutdown(const struct conf *conf, const char *service, char reason[MSGFILE_MAX])
{
        const char *dir = conf_str(conf, NULL, "configdirectory");
        char path[4096];
        size_t skip = 0;

        if (!dir)
                return false;
        snprintf(path, sizeof path, "%s/msg/shutdown.%s", dir, service);
        if (!first_line(path, reason)) {
                snprintf(path, sizeof path, "%s/msg/shutdown", dir);
                if (!first_line(path, reason))
                        return false;
        }
        while (reason[skip] == '[')
                skip++;
        memmove(reason, reason + skip, strlen(reason + skip) + 1);
        if (!reason[0])
                snprintf(reason, MSGFILE_MAX, "The service is down for maintenance");
        return true;
}

bool msgfile_motd(const struct conf *conf, char line[MSGFILE_MAX])
{
        const char *dir = conf_str(conf, NULL, "configdirectory");
        char path[4096];

        if (!dir)
                return false;
        snprintf(path, sizeof path, "%s/msg/motd", dir);
        return first_line(path, line) && line[0];
}
