/* identity - see identity.h */
#include "server/identity.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PREFERRED_NICE (-8)

int identity_find(const struct conf *conf, struct identity *id_r, struct err *err)
{
        const char *user = conf_str(conf, NULL, "cyrus_user"), *group = conf_str(conf, NULL, "cyrus_group");
        const struct passwd *pw;
        const struct group *gr;

        *id_r = (struct identity){ .uid = geteuid(), .gid = getegid() };
        if (geteuid() != 0)
                return 0;
        user = user ? user : "cyrus";
        pw = getpwnam(user);
        if (!pw)
                return err_set(err, ERR_CONFIG, "started as root, and the user \"%s\" to become (cyrus_user) does not exist", user);
        id_r->changes = true;
        id_r->uid = pw->pw_uid;
        id_r->gid = pw->pw_gid;
        snprintf(id_r->user, sizeof id_r->user, "%s", user);
        if (group) {
                gr = getgrnam(group);
                if (!gr)
                        return err_set(err, ERR_CONFIG, "the group \"%s\" (cyrus_group) does not exist", group);
                id_r->gid = gr->gr_gid;
        }
        if (id_r->uid == 0 || id_r->gid == 0)
                return err_set(err, ERR_CONFIG, "cyrus_user \"%s\" and its group must not be root", user);
        return 0;
}

/* Of this thread: which there are, and which are in force. */
static bool set_capabilities(unsigned permitted, unsigned effective)
{
        struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3, .pid = 0 };
        struct __user_cap_data_struct data[2];

        memset(data, 0, sizeof data);
        data[0].permitted = permitted;
        data[0].effective = effective;
        return syscall(SYS_capset, &header, data) == 0;
}

/*
 * Keep just the right to bind low ports, and, not in force, that to put a thread before others (identity_prefer_thread()). Fails in some containers: then HUP
 * cannot add a low port, which is said there.
 */
static void keep_capabilities(void)
{
        const unsigned bind = 1u << CAP_NET_BIND_SERVICE, nice_too = 1u << CAP_SYS_NICE;

        if (!set_capabilities(bind | nice_too, bind) && !set_capabilities(bind, bind))
                set_capabilities(0, 0);
        prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0);
}

void identity_prefer_thread(void)
{
        struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3, .pid = 0 };
        struct __user_cap_data_struct data[2];
        const unsigned nice_too = 1u << CAP_SYS_NICE;

        if (syscall(SYS_capget, &header, data) < 0 || !(data[0].permitted & nice_too))
                return;
        set_capabilities(data[0].permitted, data[0].effective | nice_too);
        setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), PREFERRED_NICE);
        set_capabilities(data[0].permitted & ~nice_too, data[0].effective & ~nice_too);
}

int identity_become(const struct identity *id, struct err *err)
{
        if (!id->changes)
                return 0;
        prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0);
        if (initgroups(id->user, id->gid) < 0)
                return err_errno(err, errno, "initgroups of %s", id->user);
        if (setresgid(id->gid, id->gid, id->gid) < 0)
                return err_errno(err, errno, "setgid %u", (unsigned)id->gid);
        if (setresuid(id->uid, id->uid, id->uid) < 0)
                return err_errno(err, errno, "setuid %u", (unsigned)id->uid);
        keep_capabilities();
        if (getuid() != id->uid || geteuid() != id->uid || getgid() != id->gid || getegid() != id->gid || setuid(0) == 0 ||
            seteuid(0) == 0)
                return err_set(err, ERR_INTERNAL, "could not give up root");
        /* A process that changed its user is not dumpable: no core files, and /proc/self belongs to root. */
        prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
        return 0;
}
