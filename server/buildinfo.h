/* buildinfo - cyr_buildinfo: what is built in, as JSON, for scripts that ask before they use it. True only for what works. */
#ifndef SERVER_BUILDINFO_H
#define SERVER_BUILDINFO_H

#include <stdbool.h>

int buildinfo_main(int argc, char **argv);
/* The same facts one by one, for cyrctl info. */
void buildinfo_each(void (*fn)(void *ctx, const char *group, const char *name, bool works), void *ctx);

#endif
