/*
 * powerloss - one state of a disk after a power loss, built and looked at: what powerloss.c has for sites.c.
 */
#ifndef T_CRASH_POWERLOSS_H
#define T_CRASH_POWERLOSS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "t/crash/disk.h"

/* What else has happened to the disk, besides the power loss. */
enum damage {
        DAMAGE_NONE,
        DAMAGE_TABLES,          /* the tables of the database are damaged: copies and log in db.backup/ and db/ bring everything back */
        DAMAGE_DATABASE,        /* … and log and copies are gone: what the last dumps knew comes back */
        DAMAGE_UNMOUNTED,       /* the second partition is not mounted: the start is refused */
};

struct state { uint32_t cut; int mode, damage; struct victim victim; unsigned seed; };

/* Build it and look. 0 fine, 1 a violation; *skipped_r: the damage would be one too many here. Cuts ascend. */
int try_state(const char *scratch, const struct state *st, bool *skipped_r, char *why, size_t size);
void print_state(const char *name, unsigned number, const struct state *st, const char *why);

#define SITE_ROUNDS 4u
/* Lines `from`, from + step, … of the list of sites, in up to so many rounds. Returns how many were not shown to be needed. */
unsigned run_sites(const char *scratch, const char *list, unsigned from, unsigned step, unsigned rounds);

#endif
