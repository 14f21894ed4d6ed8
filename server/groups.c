/* groups - see groups.h */
#include "server/groups.h"

#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <unistd.h>

#include "util/must.h"

#define GROUPS_MAX 1000

char **groups_of(const char *userid)
{
        struct passwd pw, *found = NULL;
        struct group gr, *group;
        gid_t gids[GROUPS_MAX], primary = (gid_t)-1;
        int n = GROUPS_MAX, out = 0;
        char buf[16384], **names;

        if (getpwnam_r(userid, &pw, buf, sizeof buf, &found) == 0 && found)
                primary = found->pw_gid;
        if (getgrouplist(userid, primary, gids, &n) < 0)
                n = n > GROUPS_MAX ? GROUPS_MAX : 0;
        names = xcalloc((size_t)n + 1, sizeof *names);
        for (int i = 0; i < n; i++)
                if (gids[i] != (gid_t)-1 && getgrgid_r(gids[i], &gr, buf, sizeof buf, &group) == 0 && group)
                        names[out++] = xstrdup(group->gr_name);
        return names;
}

void groups_free(char ***groups)
{
        for (char **g = *groups; g && *g; g++)
                free(*g);
        free(*groups);
        *groups = NULL;
}
