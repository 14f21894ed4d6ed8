/*
 * dlist - the grammar of csync, Cyrus's replication protocol: values, lists, lists with keys, and files, read as the octets come and written.
 *
 *      item    = key SP value                          a whole line is one item and CRLF (or LF)
 *      value   = atom / quoted / literal / list / kvlist / file / "NIL"
 *      list    = "(" [ value *( SP value ) ] ")"
 *      kvlist  = "%(" [ item *( SP item ) ] ")"
 *      literal = "{" n "+}" CRLF n*OCTET               from the client; "{" n "}" from the server. Both are read from either.
 *      file    = "%{" partition SP guid SP size "}" CRLF size*OCTET
 *
 * Between values stand blanks, and inside an open list CR and LF too. What an item is called is said by its key: keys in a kvlist come in any
 * order, of two equal ones the first counts, unknown ones are ignored.
 *
 * No input can make the parser take more memory, depth or time than the limits say. An atom, quoted string or literal that is too long, one
 * item too many, a file that is not wanted: the rest of the line is read to its end and thrown away, so that the stream stays in step and the
 * session can go on. What is out of grammar, too deep, or a line too long in all, cannot be skipped like that: see dlist_in_step().
 *
 * A parser belongs to one thread.
 */
#ifndef UTIL_DLIST_H
#define UTIL_DLIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/arena.h"
#include "util/err.h"
#include "util/hash.h"
#include "util/str.h"

#define DLIST_DEPTH_MAX 16                      /* the protocol's deepest, a message's annotations inside of a mailbox's records, is 6 */
#define DLIST_PARTITION_MAX 64

enum dlist_kind { DLIST_NIL, DLIST_ATOM, DLIST_STRING /* quoted or literal */, DLIST_LIST, DLIST_KVLIST, DLIST_FILE };

struct dlist {
        enum dlist_kind kind;
        uint32_t n;                             /* children, those that went to hooks.element included */
        struct span key;                        /* in a kvlist and at the top, else { NULL, 0 }; with a NUL after it */
        struct span value;                      /* atom, string: with a NUL after it; may contain NULs. File: the partition */
        struct dlist *first, *last, *next;      /* a list's children, in the order they came */
        uint8_t guid[GUID_SIZE];                /* file */
        uint64_t size;                          /* file: octets */
        void *file;                             /* file: what hooks.file_end() set; borrowed from whoever made it */
};

struct dlist_limits {
        size_t word;                            /* octets of an atom, a quoted string or a key */
        size_t literal;                         /* octets of a literal */
        unsigned depth;                         /* lists within lists; DLIST_DEPTH_MAX at most */
        uint64_t items;                         /* values in one line */
        size_t memory;                          /* octets of what one line leaves in the arena, at any time */
        uint64_t octets;                        /* of one line, those of files apart */
        uint64_t file;                          /* octets of one file */
};
/* What a real Cyrus takes (its `maxword`, `maxquoted`, `maxliteral`), with room for a mailbox of millions. */
#define DLIST_LIMITS_DEFAULT { .word = 131072, .literal = 131072, .depth = 12, .items = UINT64_C(200000000), .memory = (size_t)64 << 20, \
                               .octets = UINT64_C(8) << 30, .file = UINT64_MAX }

/*
 * What is done while a line is read. All may be NULL. One that returns -1 (with err) refuses the line: the rest is read and thrown away, no
 * further one is called, and dlist_parse() returns -1 with that err when the line has ended.
 *   file_begin   a %{…} came: file->value, guid, size are set. NULL: files are refused (ERR_SYNTAX).
 *   file_write   the next of its octets, as they came
 *   file_end     all of them are there; may set file->file
 *   streams      whether the children of the list with this key, an item of the line's kvlist, go to element() one by one instead of
 *                staying in memory: RECORD of a mailbox
 *   element      such a child; it and all below it are gone when this returns
 * After an error in the middle of a file neither file_write nor file_end come: the caller gives up what it has begun.
 */
struct dlist_hooks {
        void *ctx;
        int (*file_begin)(void *ctx, struct dlist *file, struct err *err);
        int (*file_write)(void *ctx, const char *p, size_t len, struct err *err);
        int (*file_end)(void *ctx, struct dlist *file, struct err *err);
        bool (*streams)(void *ctx, struct span key);
        int (*element)(void *ctx, struct span key, const struct dlist *element, struct err *err);
};

struct dlist_parser;
/* `arena` holds what is read and is the caller's, who may reset it when no line is being read. Limits and hooks are copied. */
struct dlist_parser *dlist_parser_create(struct arena *arena, const struct dlist_limits *limits, const struct dlist_hooks *hooks);
void dlist_parser_destroy(struct dlist_parser **p);
/* Forget a line that was begun; the next octet begins an item. */
void dlist_parser_reset(struct dlist_parser *p);
/*
 * Read on. *used_r: octets of `in` that are used up, to be set on any return; those behind the line's end are left alone.
 * Returns 1: the line is whole, *item_r is it (in the arena) and the parser is ready for the next. 0: all of `in` is used, more is needed.
 * -1 with err: ERR_SYNTAX, ERR_LIMIT, or a hook's; the parser is ready for the next line. See dlist_in_step().
 */
int dlist_parse(struct dlist_parser *p, struct span in, size_t *used_r, struct dlist **item_r, struct err *err);
/* After -1: whether the line was read to its end nevertheless. False: what follows is still some of that line, and where the next begins is
 * not known for sure. */
bool dlist_in_step(const struct dlist_parser *p);
/* After -1 and not in step: octets that were announced by their number have come before, a literal's or a file's. Then what follows may well be
 * such octets, of any content: who reads commands from it would obey a message's text. The connection must end. */
bool dlist_had_octets(const struct dlist_parser *p);
/* Nothing of the next line has been read. */
bool dlist_is_idle(const struct dlist_parser *p);

/* ---- what was read ---- */

/* The first child of a kvlist with that key (compared exactly), NULL: none. `d` may be NULL. */
const struct dlist *dlist_find(const struct dlist *d, const char *key);
/*
 * A value of a kvlist. False: it is missing, of another kind, or out of grammar; *value_r is as before then.
 *   dlist_str       an atom or string; any octets
 *   dlist_text      an atom or string without NUL, as a C string that lives as long as the item
 *   dlist_u64       decimal, `max` at most
 *   dlist_date      decimal seconds since 1970, any that fits int64_t
 *   dlist_hex64     at most 16 hex digits
 *   dlist_guid      40 hex digits
 */
bool dlist_str(const struct dlist *kv, const char *key, struct span *value_r);
bool dlist_text(const struct dlist *kv, const char *key, const char **value_r);
bool dlist_u64(const struct dlist *kv, const char *key, uint64_t max, uint64_t *value_r);
bool dlist_u32(const struct dlist *kv, const char *key, uint32_t *value_r);
bool dlist_date(const struct dlist *kv, const char *key, int64_t *value_r);
bool dlist_hex64(const struct dlist *kv, const char *key, uint64_t *value_r);
bool dlist_guid(const struct dlist *kv, const char *key, uint8_t value_r[GUID_SIZE]);
/* A list without keys; false: missing or something else. */
bool dlist_list(const struct dlist *kv, const char *key, const struct dlist **list_r);
/* The same of a value itself. */
bool dlist_as_str(const struct dlist *value, struct span *value_r);
bool dlist_as_text(const struct dlist *value, const char **value_r);
bool dlist_as_u64(const struct dlist *value, uint64_t max, uint64_t *value_r);
bool dlist_as_guid(const struct dlist *value, uint8_t value_r[GUID_SIZE]);

/* ---- writing ---- */

/* Who writes: the client's literals are {n+}, the server's {n} – Cyrus's client since the fix of CVE-2024-34055 takes no other from a server.
 * The server writes quoted strings with escapes where the client writes a literal, where it can. */
enum dlist_side { DLIST_CLIENT, DLIST_SERVER };

struct dlist_writer {
        struct str *out;                        /* appended to; may be emptied at any time between two calls */
        enum dlist_side side;
        bool space;                             /* a blank goes before what comes next */
};
/*
 * Values are appended to `out`, with blanks where the grammar wants them; the caller writes what stands before an item ("APPLY ", "* ") and
 * CRLF after it. `key` NULL: a value in a list without keys.
 */
void dlist_writer_init(struct dlist_writer *w, struct str *out, enum dlist_side side);
void dlist_write_list(struct dlist_writer *w, const char *key);         /* opens; dlist_write_end() closes */
void dlist_write_kvlist(struct dlist_writer *w, const char *key);
void dlist_write_end(struct dlist_writer *w);
void dlist_write_str(struct dlist_writer *w, const char *key, struct span value);      /* atom, quoted or literal, as the octets need */
void dlist_write_text(struct dlist_writer *w, const char *key, const char *value);     /* the same; NULL: NIL */
void dlist_write_u64(struct dlist_writer *w, const char *key, uint64_t value);
void dlist_write_date(struct dlist_writer *w, const char *key, int64_t value);         /* what is before 1970: 0 */
void dlist_write_hex64(struct dlist_writer *w, const char *key, uint64_t value);       /* 16 lower-case digits */
void dlist_write_guid(struct dlist_writer *w, const char *key, const uint8_t guid[GUID_SIZE]);
void dlist_write_nil(struct dlist_writer *w, const char *key);
void dlist_write_flag(struct dlist_writer *w, const char *flag);        /* "\\Seen" or a keyword, in a list */
/* The head of a file: its `size` octets are to follow at once, by whatever way. */
void dlist_write_file(struct dlist_writer *w, const char *key, const char *partition, const uint8_t guid[GUID_SIZE], uint64_t size);

#endif
