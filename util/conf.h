/*
 * conf - imapd.conf: an immutable, counted snapshot of one reading of it, and the table of all options.
 * Any thread may read a snapshot it holds a reference to. HUP makes a new one and puts it into the conf_live; sessions keep
 * theirs until they ask for the present one.
 *
 * Grammar (Cyrus 3.6): one `option: value` a line; leading blanks ignored; '#' begins a comment line, never one after a value;
 * a '\' at the end of a line joins the next; names are of letters, digits, '-' and '_' in any case; an empty value, the same
 * option twice and an unknown '@' word are errors; `@include: file`, relative to the including file, each file once. `<service>_<option>` wins over `<option>` for that service
 * (the name in cyrus.conf), wherever it stands. Unknown options are kept as strings and reported, never fatal.
 */
#ifndef UTIL_CONF_H
#define UTIL_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/diag.h"
#include "util/err.h"
#include "util/str.h"

enum conf_type {
        CONF_STRING,
        CONF_INT,                               /* C notation: decimal, 0x, 0 octal, sign */
        CONF_SWITCH,                            /* 1 y… t… on, 0 n… f… off */
        CONF_DURATION,                          /* sums of number and unit d h m s; a bare last number has the option's unit. Or the word in `values` */
        CONF_ENUM,                              /* one of `values` */
        CONF_SET,                               /* some of `values`, separated by blanks */
        CONF_BYTES,                             /* our own options only: number with B K M G (1024) */
};

#define CONF_NEVER INT64_MAX                    /* a CONF_DURATION that is its option's word */

enum conf_handled {
        CONF_HONOURED,
        CONF_LATER,                             /* accepted; not built yet */
        CONF_IGNORED,                           /* accepted, without a meaning here; `note` says why */
};

struct conf_option {
        const char *name;
        enum conf_type type;
        const char *def;                        /* as it would be written; NULL: unset */
        const char *values;                     /* CONF_ENUM, CONF_SET: separated by blanks, "a=b": b is another name of a; CONF_DURATION: "never" */
        char unit;                              /* CONF_DURATION: of a bare number, 'd' 'h' 'm' 's' */
        enum conf_handled handled;
        const char *purpose;                    /* one sentence for the manual, or why it is ignored; NULL: the name says it */
};

/* The table, sorted by name (conf_options.c); *n_r is its length. */
const struct conf_option *conf_options(size_t *n_r);
/* By name in lower case; NULL: no such option. Deprecated names are not found. */
const struct conf_option *conf_option_find(const char *name);
/* What an old name is called now: NULL when `name` is not an old name, "" when nothing takes its place. */
const char *conf_option_renamed(const char *name);

struct conf;

/* Where conf_read gets its text from; a test or a fuzzer gives its own. Fills `out` (appended). */
struct conf_source {
        int (*slurp)(void *context, const char *path, struct str *out, struct err *err);
        void *context;
};

/*
 * Read `path` (NULL: /etc/imapd.conf; with $CYRUS_PREFIX in front, when that is set and the file is there).
 *   source  NULL: the file system
 *   diag    gets every error and warning (unknown options, old names)
 * Returns 0 with a reference in *conf_r, or -1 when there was any error (they are in diag, the first one in err).
 */
int conf_load(const char *path, const struct conf_source *source, struct conf **conf_r, struct diag *diag, struct err *err);

/*
 * One line of the file as it was written, for those who explain it: every line that has a name and a value, those that lose against another
 * or are out of their grammar included.
 */
struct conf_line {
        const char *given, *name;               /* in lower case, as written; in force: an old name is replaced */
        const char *value;
        const char *file;
        unsigned line, column;                  /* of the value */
        const struct conf_option *option;       /* NULL: `name` is no option of the table */
        unsigned prefix_len;                    /* of "<service>_" in `name`; 0: none */
        bool free_form;                         /* partition-NAME, sasl_NAME … */
        bool bad;                               /* the value is out of the option's grammar (not looked at with a prefix), or a free form lacks its name */
        unsigned loses_to;                      /* the line that is in force instead of this one, 0: none */
};
/* As conf_load(), but what can be read is there whatever the errors are: only conf_next_line() and conf_path() may be used on it. */
void conf_examine(const char *path, struct conf **conf_r, struct diag *diag);
/* The lines in the order of the files, from *pos = 0. False at the end. */
bool conf_next_line(const struct conf *c, size_t *pos, struct conf_line *line_r);

/* What a mail store cannot do without: configdirectory, and a partition-… for defaultpartition (or any, when that is not set).
 * Adds errors to diag; returns 0, or -1 with err. */
int conf_require_store(const struct conf *c, struct diag *diag, struct err *err);

/* Look at the `<prefix>_<option>` lines: with a prefix in `services` (NULL-terminated) a value out of the option's grammar is an
 * error (a lookup ignores it), a prefix that is neither there nor the name of a program is reported. */
void conf_check_services(const struct conf *c, const char *const *services, struct diag *diag);

/* Do Cyrus's programs look options up by this name, beside the services ("ctl_cyrusdb", "squatter")? */
bool conf_is_program(struct span name);

struct conf *conf_ref(struct conf *c);
void conf_unref(struct conf **c);
const char *conf_path(const struct conf *c);    /* of the file read, absolute */

/*
 * The value of an option for a service (NULL: the plain form only), or its default. Asking for an option that is not in the
 * table, or with another type, is our own mistake (must). The strings live as long as the snapshot.
 */
const char *conf_str(const struct conf *c, const char *service, const char *option);    /* NULL: unset, no default */
int64_t conf_int(const struct conf *c, const char *service, const char *option);
bool conf_switch(const struct conf *c, const char *service, const char *option);
int64_t conf_duration_s(const struct conf *c, const char *service, const char *option); /* seconds; unset: 0 */
uint64_t conf_bytes(const struct conf *c, const char *service, const char *option);     /* CONF_BYTES; octets */
const char *conf_enum(const struct conf *c, const char *service, const char *option);   /* one of the table's values */
bool conf_set_has(const struct conf *c, const char *service, const char *option, const char *value);
/* The text as given, or the default's text; for any type. NULL: unset. */
const char *conf_raw(const struct conf *c, const char *service, const char *option);
/* Was it given in the file (in either form)? */
bool conf_is_set(const struct conf *c, const char *service, const char *option);

/* Where the file sets it, for messages: the plain form, else the first with a prefix. Not set: the file's path, 0 and 0. */
void conf_where(const struct conf *c, const char *option, const char **file_r, unsigned *line_r, unsigned *column_r);

/* Options without a fixed name ("partition-default", "sasl_mech_list", "be1_password"): the value, NULL when not given.
 * `name` in lower case. With a service, `<service>_<name>` wins. */
const char *conf_free(const struct conf *c, const char *service, const char *name);

/* The directory of a partition (any case), NULL when there is none. */
const char *conf_partition(const struct conf *c, const char *partition);

/*
 * Every option given in the file whose name begins with `prefix` ("partition-", "sasl_", "xlist-", "autocreate_acl"), in the
 * order of the file. Start with *pos = 0. name_r is the whole name in lower case. Returns false at the end.
 */
bool conf_next(const struct conf *c, const char *prefix, size_t *pos, const char **name_r, const char **value_r);

/* Words of a value separated by blanks (admins, proxyservers): is `word` among them? NULL value: false. */
bool conf_words_have(const char *value, const char *word);

/* Parse one value as the option's type would be; for the checks at load time, tests and tools. Returns false when out of
 * grammar; *number_r: int, switch (0/1), seconds or octets; for an enum the index of the value; for a set the bits. */
bool conf_parse_value(const struct conf_option *o, const char *value, int64_t *number_r);

/* The snapshot in force, swapped at HUP. */
struct conf_live;
struct conf_live *conf_live_create(struct conf *c);             /* takes the reference over */
void conf_live_destroy(struct conf_live **live);
struct conf *conf_live_get(struct conf_live *live);             /* a reference of the caller's own */
void conf_live_set(struct conf_live *live, struct conf *c);     /* takes the reference over */

#endif
