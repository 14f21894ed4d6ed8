/* conf_private - what conf.c (the snapshot) and conf_read.c (the grammar) share. */
#ifndef UTIL_CONF_PRIVATE_H
#define UTIL_CONF_PRIVATE_H

#include "util/arena.h"
#include "util/array.h"
#include "util/conf.h"
#include "util/hash.h"

struct conf_entry {
        const char *name;                       /* in lower case; an old name is replaced by the new one */
        const char *value;
        const char *file;
        unsigned line, column;                  /* of the value */
        const struct conf_option *option;       /* of `name` itself, or of what follows the service's prefix; NULL: free form */
        unsigned prefix_len;                    /* of "<service>_" in name; 0: the plain form */
        bool renamed;                           /* was written with its old name */
};

struct conf {
        unsigned refs;                          /* atomic */
        struct arena arena;
        const char *path;
        struct conf_entry *v;                   /* in the order of the files */
        size_t n, cap;
        ARRAY(struct conf_line) lines;          /* all of them, for conf_next_line() */
        struct table *by_name;                  /* name → index in v, plus 1 */
        uint64_t prefixes;                      /* a bit for what stands before any '_' in a name (conf_prefix_bit()): no line of a service, no search */
        const char **defaults;                  /* as the option table, with {configdirectory} replaced; NULL: as in the table */
};

/* Read `path` and what it includes into `c`, which is new and empty. Problems go to diag. */
void conf_read(struct conf *c, const char *path, const struct conf_source *source, struct diag *diag);
struct conf_entry *conf_entry_find(const struct conf *c, const char *name);
uint64_t conf_prefix_bit(struct span prefix);

#endif
