/*
 * disk - what a load did to its disk (record.c), and the disks that a power loss could have left. For powerloss.c and sites.c: one
 * recording for each process, no locks; whatever is allocated stays.
 */
#ifndef T_CRASH_DISK_H
#define T_CRASH_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/array.h"
#include "util/hash.h"

struct wr { uint32_t seq; bool truncate; uint64_t offset; uint32_t len; const char *data; };
struct sync { uint64_t number; uint32_t begin, end, site; };

/* A file or directory: what was done to it, and for ascending cuts what of that is durable. */
struct node {
        bool is_dir;
        ARRAY(struct wr) writes;
        ARRAY(struct sync) syncs;
        uint32_t durable;               /* what was done to it before this event is */
        uint32_t gone;                  /* the event that took its (last) name, 0: it has one */
        char *target;                   /* a symbolic link's, which is there whole or not at all; else NULL */
        /* a file */
        char *base;                     /* its durable octets */
        uint64_t size, cap;
        size_t applied;
        uint64_t now_size;              /* as the load sees it */
        /* a directory */
        struct table *now;              /* its entries as the load sees them */
        struct table *built;            /* … as they are in the state being built */
        uint32_t prefix;                /* decision for the state: ops below are kept */
        bool placed;
};

/* One change of a directory, atomic by itself: one or two of its names (renamed, exchanged). */
struct name_op {
        uint32_t seq;
        struct node *dir;
        struct { char *name; struct node *to; } change[2];      /* to NULL: gone; name NULL: no second */
};

struct note { uint32_t seq; uint64_t time_us; const char *text; size_t len; };

extern struct recording {
        char *map;
        size_t size;
        uint32_t events;
        ARRAY(struct node *) nodes;
        ARRAY(struct name_op) names;
        ARRAY(struct note) notes;
        ARRAY(uint64_t) times;          /* of each event */
        ARRAY(uint32_t) moments;        /* events worth a cut before them: not Berkeley DB filling a log file with zeros */
        ARRAY(uint32_t) sites;
        struct table *by_ino;
        struct node *root;
} rec;

/* Sites whose syncs are taken out. */
extern struct dropped_sites { uint32_t *v; size_t n, cap; } dropped;
bool is_dropped(uint32_t site);

/*
 * What is not durable at the cut. The first six, for a disk as it is; the others, for a sync taken out: what that sync alone should
 * have made durable (done to its file before it began) is lost, with what was done to the file later there nevertheless (LOST_…), or
 * with that (GONE_…), in part (TORN_…); of all else is there everything, or nothing.
 */
enum mode { KEEP_NONE, KEEP_ALL, NAMES_ONLY, DATA_ONLY, RANDOM_PREFIX, RANDOM_TORN, MODES,
            LOST_ALL = MODES, LOST_NONE, GONE_ALL, GONE_NONE, TORN_ALL, MODES_ALL };
extern const char *const mode_names[];

/* The file or directory whose sync, begun at `begin`, was taken out. */
struct victim { struct node *node; uint32_t begin; };

/* Fill `rec` from the file. -1: it cannot be read. */
int load_log(const char *path);
/* What is durable at `cut`, an event's number: never less than before. */
void advance(uint32_t cut);
/* A directory tree as it could be at `cut`, which advance() was called for. -1: errno says why. */
int build_state(const char *scratch, uint32_t cut, int mode, const struct victim *v, unsigned *seed);

#endif
