/*
 * sieve_files - users' Sieve scripts as files, below the option `sievedir` as Cyrus lays them out:
 *
 *   <sievedir>/uuid/<c1>/<c2>/<unique id of the user's INBOX>/
 *       <name>.script     its text; the time of the file is that of its last change
 *       defaultbc         symbolic link to <name>.bc: the active one (there need not be such a file)
 *
 * Any thread may call anything; all of it blocks. Changes are durable when they return, and never half done: a crash leaves the former script or
 * the new one. Each publishes CHANGE_SIEVE with the user's id as its name. Names are as RFC 5804 1.6 has them, and cannot lead out of the
 * directory, nor to a file that is not a script: links are not followed.
 */
#ifndef STORE_SIEVE_FILES_H
#define STORE_SIEVE_FILES_H

#include <stdbool.h>
#include <stdint.h>

#include "util/arena.h"
#include "util/err.h"
#include "util/hash.h"
#include "util/str.h"

struct store;

#define SIEVE_NAME_MAX 200                      /* octets of a name: of 255 in a file's there have to be ".script" and a temporary suffix */
#define SIEVE_SCRIPT_MAX (4u << 20)             /* octets of a script, whatever sieve_maxscriptsize says to who uploads one */
#define SIEVE_SCRIPTS_MAX 10000                 /* of one user */

/* Well-formed UTF-8 of 1 to SIEVE_NAME_MAX octets, no control characters, line or paragraph separators, no '/', no '.' in front. */
bool sieve_name_ok(struct span name);
/* What csync calls FILENAME: "<name>.script", "<name>.bc". *name_r is in the arena. SIEVE_FILE_OTHER: neither, or an impossible name. */
enum sieve_file_kind { SIEVE_FILE_OTHER, SIEVE_FILE_SCRIPT, SIEVE_FILE_BYTECODE };
enum sieve_file_kind sieve_file_name(struct span filename, struct arena *arena, const char **name_r);

struct sieve_script {
        const char *name;
        int64_t last_update;                    /* Unix seconds */
        uint8_t guid[GUID_SIZE];                /* SHA-1 of the text */
        uint64_t size;
        bool active;
};
/* All scripts of a user, by name. A user without INBOX has none. ERR_IO, ERR_LIMIT. */
int sieve_files_list(struct store *store, const char *userid, struct arena *arena, struct sieve_script **list_r, uint32_t *n_r, struct err *err);
/* The text, in the arena. ERR_NOTFOUND. */
int sieve_files_read(struct store *store, const char *userid, const char *name, struct arena *arena, struct span *text_r, struct err *err);
/* Make or replace one. last_update INT64_MIN: now. ERR_NOTFOUND: the user has no INBOX; ERR_BADNAME; ERR_LIMIT; ERR_READONLY; ERR_IO, ERR_NOSPACE. */
int sieve_files_write(struct store *store, const char *userid, const char *name, int64_t last_update, struct span text, struct err *err);
/* An active one is deactivated first. ERR_NOTFOUND. */
int sieve_files_remove(struct store *store, const char *userid, const char *name, struct err *err);
/* Make it the active one; NULL: none is. ERR_NOTFOUND: there is no such script. */
int sieve_files_activate(struct store *store, const char *userid, const char *name, struct err *err);
/* All of a user's, while he still has an INBOX; none: fine. */
int sieve_files_remove_user(struct store *store, const char *userid, struct err *err);

#endif
