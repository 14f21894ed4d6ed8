/* Stands in for the engine until it is there: sockets are held, nobody is served. */
#include <stdlib.h>
#include <unistd.h>

#include "server/service.h"
#include "util/must.h"

struct service { int fds[32]; int n; };

int engine_start(const struct engine_options *options, struct err *err) { (void)options; (void)err; return 0; }
void engine_stop(unsigned grace_ms) { (void)grace_ms; }
void services_reload(void) { }
int service_add(const struct service_params *params, struct service **service_r, struct err *err)
{
        (void)params;
        (void)err;
        *service_r = xcalloc(1, sizeof **service_r);
        return 0;
}
int service_listen(struct service *service, int fd, struct err *err)
{
        (void)err;
        service->fds[service->n++] = fd;
        return 0;
}
void service_remove(struct service **service)
{
        for (int i = 0; *service && i < (*service)->n; i++)
                close((*service)->fds[i]);
        free(*service);
        *service = NULL;
}
void service_update(struct service *service, const struct service_params *params) { (void)service; (void)params; }
