/* servername - see servername.h */
#include <stdio.h>
#include <unistd.h>

#include "server/servername.h"
#include "util/conf.h"

const char *servername(const struct conf *conf, const char *service, char name[SERVERNAME_MAX])
{
        const char *option = conf_str(conf, service, "servername");

        if (option && *option)
                snprintf(name, SERVERNAME_MAX, "%s", option);
        else if (gethostname(name, SERVERNAME_MAX) < 0 || !*name)
                snprintf(name, SERVERNAME_MAX, "localhost");
        name[SERVERNAME_MAX - 1] = '\0';                /* gethostname() need not end what it cuts */
        return name;
}
