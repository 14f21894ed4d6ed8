/* buildinfo - cyr_buildinfo: what is built in, as JSON, for scripts that ask before they use it. True only for what works. */
#ifndef SERVER_BUILDINFO_H
#define SERVER_BUILDINFO_H

int buildinfo_main(int argc, char **argv);

#endif
