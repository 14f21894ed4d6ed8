/* search_private - between cmd_search.c, cmd_sort.c, cmd_thread.c, search_run.c, search_read.c and their like. */
#ifndef SERVER_IMAP_SEARCH_PRIVATE_H
#define SERVER_IMAP_SEARCH_PRIVATE_H

#include "server/imap/search_parse.h"
#include "server/imap/objectid.h"
#include "server/imap/selected.h"
#include "store/sort_cache.h"
#include "util/slice_sort.h"

/* ---- search_read.c ---- */

/*
 * A window over the files that messages lie in. Small messages mostly stand one after the other in a segment: the window takes in as
 * many of those that will be read as it holds, so that they cost one system call together. All references are given back by
 * search_reader_release().
 */
#define SEARCH_WINDOW ((size_t)256 * 1024)
#define SEARCH_KEYWORDS_CACHED 16
struct search_reader {
        struct mailbox *mbox;                   /* borrowed */
        const char *userid;                     /* whose private annotations; borrowed */
        uint32_t uid, kwset;                    /* of the message at hand */
        struct {                                /* its annotations, once they were asked for */
                uint32_t uid;                   /* 0: of none */
                struct arena arena;
                struct annot *v;
                struct span *canonical;         /* values, p NULL: not made yet */
                uint32_t n;
        } annots;
        struct extent body;                     /* of the message at hand; reference */
        struct extent ahead[WALK_MAX];          /* of a batch's messages, opened before their turn; references; file NULL: not open */
        uint64_t known_end;                     /* in body.file, messages that will be read reach up to here */
        struct file *file;                      /* the window: reference, NULL: empty */
        uint64_t offset;                        /* in that file */
        size_t len;
        char *buf;                              /* SEARCH_WINDOW octets, NULL until needed */
        struct { const char *name; int id; } keywords[SEARCH_KEYWORDS_CACHED];
        unsigned keywords_n;
};

/* Open the bodies of those messages from i on that will be read too (SEARCH_MORE) and stand in one window with it. */
void search_reader_ahead(struct search_reader *r, const struct walk_batch *b, uint32_t i, const enum search_result *results);
/* Message i of a batch of n is at hand: its body is open then. */
int search_reader_open(struct search_reader *r, const struct msg *m, uint32_t n, uint32_t i, struct err *err);
/* The numbers of the batch mean nothing any more. */
void search_reader_end_batch(struct search_reader *r);
/* Parked: give back everything but the body of the message at hand. */
void search_reader_pause(struct search_reader *r);
/* Give everything back. */
void search_reader_release(struct search_reader *r);

/* The callbacks of struct search_message; ctx is the reader. */
int search_read(void *ctx, uint64_t offset, void *buf, size_t len, struct err *err);
const char *search_peek(void *ctx, uint64_t offset, size_t len);
bool search_has_keyword(void *ctx, struct span keyword);
bool search_has_annotation(void *ctx, const struct search_key *key, struct span needle);

/* ---- search_run.c ---- */

/*
 * A program run over a mailbox, in slices. The caller fills in what is above the line, then search_run_begin(), search_run_step() until it
 * says CMD_DONE, search_run_end(). While the session is parked (the step said something else) no files are held.
 */
struct search_run {
        struct imap *imap;
        const struct search_program *program;
        struct mailbox *mbox;                   /* borrowed; NULL: the selected one */
        struct view *view;                      /* borrowed; of that mailbox */
        struct seen *seen;                      /* borrowed; of a mailbox that is not the selected one: this user's \Seen, NULL: flags */
        const struct uidset *recent;            /* \Recent there; NULL: none */
        void (*found)(void *ctx, const struct msg *m, uint32_t seqno);  /* ascending */
        bool (*enough)(void *ctx);              /* NULL: all messages are wanted */
        bool several;                           /* one of several mailboxes: nobody knows beforehand how many messages there are */
        bool no_wait;                           /* look at flags that are not published yet instead of waiting: no command is there to wait */
        void *ctx;
        /* ---- */
        bool missing;                           /* some were expunged meanwhile */
        struct err err;                         /* the first failure that is not just a message gone; ERR_NONE */
        uint64_t total, looked;                 /* messages to be looked at, done */
        uint64_t before;                        /* done by the command before this run began */
        bool own;                               /* not the selected mailbox */
        struct walk walk;
        struct search_eval *cheap, *deep;
        struct search_reader reader;
        struct arena parts;                     /* of the message at hand */
        bool in_message;
        struct msg msg;                         /* the message at hand */
        uint32_t seqno;
        bool uses_objectids;
        char emailid[OBJECTID_SIZE], threadid[OBJECTID_SIZE];   /* of the message that was described last */
};
/* In the selected mailbox: sets mbox, view and recent. */
void search_run_selected(struct search_run *run, struct imap *imap);
/* -1 with err: nothing is to be ended. `among`: only these UIDs (taken over, NULL: all). */
int search_run_begin(struct search_run *run, struct uidset *among, struct err *err);
enum cmd_result search_run_step(struct search_run *run);
void search_run_end(struct search_run *run);

/* ---- search_answer.c: what SEARCH, SORT and their like share in answering ---- */

/*
 * ---- search_filter.c: FILTER (RFC 5466) ----
 * What FILTER keys may name is read; then begin(), which parses. True: it is done. False: *result_r is to be returned, for now (called
 * again while the command has no state) or for good: the tagged reply was sent.
 */
bool search_cmd_begin(struct imap *imap, bool (*begin)(struct imap *), enum cmd_result *result_r);
/* For struct search_sets; ctx is imap->cmd.filters. */
bool search_filter_find(const void *ctx, struct span name, struct span *value_r);

/* What message sets of a program in the selected mailbox refer to. */
struct search_sets search_sets_selected(struct imap *imap);
/* Answer for a program that cannot be used: BAD, NO [BADCHARSET …], NO [UNDEFINED-FILTER …]. */
void search_parse_failed(struct imap *imap, const struct search_request *req);
/* May this client send such a program: with message numbers (RFC 9586 3), of this charset (RFC 9755 3)? Notes whether it has numbers in
 * imap->cmd.seqnos. False: the tagged BAD was sent. */
bool search_program_allowed(struct imap *imap, const struct search_request *req);
/* The tagged reply once a run is over: NO when it failed, OK otherwise. */
enum cmd_result search_run_reply(struct imap *imap, const struct search_run *run, const char *command);
/* "* ESEARCH (TAG "x")" and " UID". */
void search_put_esearch(struct imap *imap, struct str *out);
/* " PARTIAL (range results)" of numbers in their order (RFC 9394 3.1). */
void search_append_partial(const struct search_partial *partial, const uint32_t *numbers, size_t n, struct str *out);
/* The members from to to - 1 of a set, counted from 0, added to out. */
void search_slice(const struct uidset *set, size_t from, size_t to, struct uidset *out);
/* Which of n results PARTIAL means: [*from_r, *to_r), counted from 0. */
void search_partial_range(const struct search_partial *partial, size_t n, size_t *from_r, size_t *to_r);
/* " MIN n MAX n COUNT n ALL set PARTIAL (…)", as asked for, of numbers in mailbox order. */
void search_append_results(const struct search_request *req, const struct uidset *numbers, struct str *out);
/* `$` becomes what SAVE means with the other result options (RFC 5182 2.4, RFC 9394 3.2); `found`: UIDs. */
void search_save(struct imap *imap, const struct search_request *req, const struct uidset *found);
/* Numbers in any order as a sequence-set that keeps the order: ascending neighbours become ranges (RFC 5267 3.2). n > 0. */
void search_append_ordered(const uint32_t *numbers, size_t n, struct str *out);

/* ---- sort_set.c: messages found, to be put in order ---- */

struct sort_message {
        uint32_t uid, seqno;
        uint32_t check;                         /* sort_check() */
        int64_t internaldate;
        int64_t sent;                           /* RFC 5256 2.2: the internal date when there is no sent date */
        uint64_t size, modseq;
};
struct sort_order;
struct sort_set {
        struct sort_message *v;
        uint32_t n, cap;
        const struct sort_facts **facts;        /* n; NULL until sort_set_load() */
        struct sort_wanted *wanted;
        uint32_t loaded;
        struct span *annots[SORT_CRITERIA_MAX]; /* for each criterion by annotation: n canonical texts; else NULL */
        uint32_t annots_loaded;
        struct arena annots_arena;
        uint8_t *scores;                        /* relevancy (RFC 6203), 1 to 100; NULL until sort_set_score() */
        uint32_t scored;
        struct sort_loader loader;
};
/* For struct search_run: ctx is the set. */
void sort_set_found(void *ctx, const struct msg *m, uint32_t seqno);
/* Learn what headers say, in slices. True: all facts are there. */
bool sort_set_load(struct sort_set *set, struct mailbox *mbox, struct session *s);
/* Learn the annotations that criteria ask for, in slices. True: they are there. */
bool sort_set_load_annots(struct sort_set *set, const struct sort_criteria *criteria, struct mailbox *mbox, const char *userid,
                          struct session *s);
/* After loading: how relevant the messages are, in slices. True: done. */
bool sort_set_score(struct sort_set *set, const struct search_request *req, struct session *s);
void sort_set_deinit(struct sort_set *set);
/* " RELEVANCY (…)" of the set's messages from to to - 1, in the order `o`, NULL: as they are. */
void sort_set_append_relevancy(const struct sort_set *set, const struct sort_order *o, size_t from, size_t to, struct str *out);
/* The same, of those that PARTIAL means if it was asked for. */
void search_append_relevancy(const struct search_request *req, const struct sort_set *set, const struct sort_order *o, struct str *out);

/* What SEARCH and ESEARCH keep of the messages they find. Zeroed: nothing was found. */
struct search_found {
        const struct search_request *req;       /* borrowed; set before the first one is added */
        struct uidset uids;
        uint64_t modseq_first, modseq_last, modseq_highest;
        struct sort_set set;                    /* filled for RELEVANCY only */
};
/* For struct search_run: ctx is the struct search_found. */
void search_found_add(void *ctx, const struct msg *m, uint32_t seqno);
/* When the search is over: what RELEVANCY needs, in slices. True: it is there. */
bool search_found_score(struct search_found *found, struct mailbox *mbox, struct session *s);
/* The MODSEQ of the answer (RFC 4731 3.2, RFC 7162 3.1.10): of the messages that are returned. */
uint64_t search_found_modseq(const struct search_found *found);
/* All that an ESEARCH response says of them from MIN on, and its end; `numbers`: of uids, as the client counts. */
void search_found_append(const struct search_found *found, const struct uidset *numbers, struct str *out);
void search_found_deinit(struct search_found *found);           /* zeroed then */

/* The order of a set by criteria, in slices. */
struct sort_order {
        const struct sort_criteria *criteria;
        const struct sort_set *set;
        struct sort_item *items;                /* n, in order when sort_order_run() is done: `at` numbers the set's messages */
        uint32_t keyed;
        bool sorting;
        struct slice_sort sort;
};
void sort_order_init(struct sort_order *o, const struct sort_criteria *criteria, const struct sort_set *set);
bool sort_order_run(struct sort_order *o, struct session *s);
void sort_order_deinit(struct sort_order *o);
/* <0, 0, >0: the order of two messages of the set, by criteria and then as they stand in the mailbox. */
int sort_order_compare(const struct sort_order *o, uint32_t a, uint32_t b);

#endif
