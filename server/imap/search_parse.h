/*
 * search_parse - the grammar of SEARCH (RFC 9051 6.4.4, RFC 3501 6.4.4; RETURN: RFC 4731, SAVE and `$`: RFC 5182; MODSEQ: RFC 7162
 * 3.1.5; WITHIN: RFC 5032; SAVED…: RFC 8514; FUZZY: RFC 6203; PARTIAL: RFC 9394; ANNOTATION: RFC 5257 4.8) → a program of store/search.h. Works, and fuzzes, without a session.
 */
#ifndef SERVER_IMAP_SEARCH_PARSE_H
#define SERVER_IMAP_SEARCH_PARSE_H

#include "server/imap/parse.h"
#include "store/search.h"
#include "store/uidset.h"

#define SEARCH_FLAG_RECENT (1u << 31)           /* beside MSG_… in search_message.flags */

enum search_return {
        SEARCH_RETURN_MIN       = 1u << 0,
        SEARCH_RETURN_MAX       = 1u << 1,
        SEARCH_RETURN_ALL       = 1u << 2,
        SEARCH_RETURN_COUNT     = 1u << 3,
        SEARCH_RETURN_SAVE      = 1u << 4,
        SEARCH_RETURN_PARTIAL   = 1u << 5,      /* RFC 9394, RFC 5267 4.4 */
        SEARCH_RETURN_RELEVANCY = 1u << 6,      /* RFC 6203 4 */
        SEARCH_RETURN_UPDATE    = 1u << 7,      /* RFC 5267 4.3 */
        SEARCH_RETURN_CONTEXT   = 1u << 8,      /* RFC 5267 4.2: a hint; nothing depends on it */
        SEARCH_RETURN_NO_DATA   = SEARCH_RETURN_SAVE | SEARCH_RETURN_UPDATE | SEARCH_RETURN_CONTEXT,    /* say nothing of their own */
};

/* PARTIAL: results first to last, counted from 1 – from the end, if so. */
struct search_partial {
        uint32_t first, last;
        bool from_end;
        struct span text;                       /* as the client wrote it */
};

/* What message sets refer to. */
struct search_sets {
        uint32_t count;                         /* messages: `*` as sequence number; higher numbers name nothing */
        uint32_t last_uid;                      /* `*` as UID; 0: the mailbox is empty */
        const struct uidset *saved;             /* `$`: UIDs; lives as long as the program */
        /* FILTER (RFC 5466): the value of a name; false: there is none. NULL: there are no filters. */
        bool (*filter)(const void *ctx, struct span name, struct span *value_r);
        const void *filter_ctx;
};

#define SEARCH_FUZZY_WORDS_MAX 32

struct search_request {
        struct search_program *program;         /* finished; in ip->arena */
        bool charset_conflicts;                 /* with UTF8=ACCEPT: one was named, or where one must be, another than UTF-8 */
        bool extended;                          /* RETURN was given: the answer is ESEARCH */
        unsigned returns;                       /* enum search_return; "RETURN ()" is ALL */
        struct search_partial partial;          /* with SEARCH_RETURN_PARTIAL */
        struct span update;                     /* with SEARCH_RETURN_UPDATE: the items to FETCH of new messages, "(uid flags)"; empty: none */
        struct span undefined_filter;           /* after a failure with ERR_NOTFOUND: this FILTER does not exist, or leads in circles */
        bool fuzzy;                             /* there is a FUZZY key (RFC 6203) */
        struct span fuzzy_words[SEARCH_FUZZY_WORDS_MAX];        /* … and these are looked for, UTF-8 */
        unsigned fuzzy_words_n;
};

/*
 * Parse what follows "SEARCH " to the end of the command. Message sets become SEARCH_SEQSET and SEARCH_UIDSET keys; they are
 * not expanded, so the program is no larger than the command. Returns 0, or -1 with ip->err:
 * ERR_CHARSET wants NO [BADCHARSET], ERR_NOTFOUND NO [UNDEFINED-FILTER], ERR_UNSUPPORTED BAD [BADCHARSET] (FILTER with another charset than
 * UTF-8, RFC 5466 3.1), anything else BAD; r->returns is then what was read before.
 */
int search_parse(struct imap_parser *ip, const struct search_sets *sets, struct search_request *r);

/* Is this what a filter may be: search keys, whole and correct (RFC 5466 3.2)? Other filters in it are taken for granted. The err is fit for
 * the client. */
int search_filter_check(struct span value, struct err *err);

/* The parts of it that other commands have in another order. r is zeroed by the caller. */
/* "RETURN (…)" and the space behind it, if it is there (RFC 4466 2.6.1). */
int search_parse_return(struct imap_parser *ip, struct search_request *r);
/* A charset, a space, and the keys to the end, as SORT and THREAD have them (RFC 5256 5). */
int search_parse_charset_keys(struct imap_parser *ip, const struct search_sets *sets, struct search_request *r);
/* A range of PARTIAL. */
int search_parse_partial(struct imap_parser *ip, struct search_partial *partial);

/* ---- SORT's criteria (RFC 5256, RFC 5957; ANNOTATION: RFC 5257 4.9) ---- */

enum sort_criterion { SORT_ARRIVAL, SORT_CC, SORT_DATE, SORT_DISPLAYFROM, SORT_DISPLAYTO, SORT_FROM, SORT_RELEVANCY, SORT_SIZE, SORT_SUBJECT, SORT_TO,
        SORT_ANNOTATION };
#define SORT_CRITERIA_MAX 16                    /* the same one again decides nothing and is left out. RELEVANCY needs request.fuzzy: the caller's to check */
struct sort_annotation {
        struct span entry;                      /* NUL-terminated, in the parser's arena */
        bool private;
};
struct sort_criteria {
        struct { enum sort_criterion by; bool reverse; struct sort_annotation annotation; } v[SORT_CRITERIA_MAX];
        unsigned n;
        bool uses_annotations;
        bool uses_facts;                        /* some criterion needs the header */
};
int sort_criteria_parse(struct imap_parser *ip, struct sort_criteria *criteria_r);

#endif
