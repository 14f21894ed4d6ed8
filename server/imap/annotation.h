/*
 * annotation - annotations of messages (RFC 5257) as commands write and read them: the grammar of APPEND, STORE, FETCH, SEARCH and SORT, what
 * may be set, and answers. The grammar works, and fuzzes, without a session.
 *
 * Which entries there are is server/metadata.h's; the annotations themselves are in the mailbox's log (store/annot.h).
 */
#ifndef SERVER_IMAP_ANNOTATION_H
#define SERVER_IMAP_ANNOTATION_H

#include "server/imap/imap.h"
#include "store/annot.h"

#define ANNOTATION_SET_MAX ANNOT_COUNT_MAX      /* values set by one command on one message */
#define ANNOTATION_ENTRIES_MAX 64               /* entry specifiers of one FETCH item */
#define ANNOTATION_ATTRIBUTES_MAX 16            /* attribute specifiers of one FETCH item */
#define ANNOTATION_PATTERN_MAX 255              /* octets of a specifier with wildcards */
#define ANNOTATION_PATH_MAX 100                 /* part numbers of an entry: more than a message can have */

/* ---- entries ---- */

/* "/1.2/comment": a part of the message, and what is annotated of it. */
struct annotation_part {
        uint32_t path[ANNOTATION_PATH_MAX];
        size_t n;                               /* 0: the entry is of the whole message */
};
/* Is this an entry (RFC 5257 3.2)? No wildcards. The err is for BAD. part_r may be NULL. */
int annotation_entry(struct span entry, struct annotation_part *part_r, struct err *err);
/* May it stand where entries are searched for: an entry, or something with wildcards? *wild_r: which. */
int annotation_pattern(struct span pattern, bool *wild_r, struct err *err);
/* Does an entry match? `*` is any octets, `%` any but `/`. In time proportional to the entry. */
bool annotation_matches(struct span pattern, const char *entry);
/* Has the message the part that this entry is of? `front` has FRONT_PARTS. */
bool annotation_part_exists(const struct annotation_part *part, const struct msg_front *front);

/* "value", "value.priv", "value.shared", "size" and so on, in any case. false: none of them. */
enum annotation_scope { ANNOTATION_SHARED = 1, ANNOTATION_PRIVATE = 2, ANNOTATION_BOTH = 3 };
bool annotation_attribute(struct span word, bool *size_r, enum annotation_scope *scope_r);

/* ---- what STORE and APPEND set ---- */

struct annotation_set {
        struct annot *v;                        /* in the parser's arena; user NULL until annotation_check(): a private one */
        uint32_t n;                             /* 0: nothing was asked for */
        bool shared, private;                   /* there are such in it */
        bool parts;                             /* there are entries of body parts */
};
/* "(" entry SP "(" attribute SP value … ")" … ")"; RFC 5257 5, entry-att. Returns 0, or -1 with ip->err. */
int annotation_parse_set(struct imap_parser *ip, struct annotation_set *set);

/*
 * May this user set these, with his rights on the mailbox (RFC 5257 3.4)? Are they small enough, and are there such entries? Private ones
 * become his. The caller fills in what is above the line.
 */
struct annotation_check {
        struct annotation_set **sets;
        uint32_t sets_n;
        uint32_t rights;                        /* ACL_… */
        /* ---- */
        struct imap *imap;
        bool asked;                             /* the job has run */
        struct err err;
};
/* CMD_DONE: *ok_r, or the tagged reply was sent. CMD_WAIT: return it and call again. */
enum cmd_result annotation_check(struct imap *imap, struct annotation_check *c, bool *ok_r);
/* The tagged reply when setting annotations has failed: ERR_LIMIT is [ANNOTATE TOOMANY] (RFC 5257 4.5), all else as imap_fail(). */
enum cmd_result annotation_fail(struct imap *imap, const struct err *err);

/* ---- what FETCH asks for ---- */

struct annotation_specifier {
        struct span pattern;
        bool wild;
        struct annotation_part part;            /* of one without wildcards */
};
struct annotation_wanted {
        bool size;                              /* else the value */
        enum annotation_scope scope;
};
struct annotation_item {
        struct annotation_item *next;
        struct annotation_specifier *entries;
        unsigned entries_n;
        bool wild, parts;                       /* some have wildcards; some are of a part, by number */
        struct annotation_wanted wanted[ANNOTATION_ATTRIBUTES_MAX];
        unsigned wanted_n;
};
/* "(" entries SP attributes ")"; RFC 5257 5, fetch-att. */
int annotation_parse_item(struct imap_parser *ip, struct annotation_item *item);

/* An entry with the attributes that were asked for, as FETCH answers: "/comment (value.priv NIL …)". */
void annotation_append(const struct annotation_item *item, const char *entry, struct span shared, struct span private, bool utf8,
                       struct str *out);
/* Has it any that was asked for? */
bool annotation_has_any(const struct annotation_item *item, struct span shared, struct span private);

#endif
