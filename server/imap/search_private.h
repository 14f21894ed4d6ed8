/* search_private - between cmd_search.c and search_read.c. */
#ifndef SERVER_IMAP_SEARCH_PRIVATE_H
#define SERVER_IMAP_SEARCH_PRIVATE_H

#include "server/imap/search_parse.h"
#include "server/imap/selected.h"

/*
 * A window over the files that messages lie in. Small messages mostly stand one after the other in a segment: the window takes in as
 * many of those that will be read as it holds, so that they cost one system call together. All references are given back by
 * search_reader_release().
 */
#define SEARCH_WINDOW ((size_t)256 * 1024)
#define SEARCH_KEYWORDS_CACHED 16
struct search_reader {
        struct imap *imap;
        uint32_t kwset;                         /* of the message at hand */
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

struct search_state {
        struct search_request req;
        struct walk walk;
        struct search_eval *cheap, *deep;
        struct search_reader reader;
        struct arena parts;                     /* of the message at hand */
        bool in_message;
        struct msg msg;                         /* the message at hand */
        struct uidset found;                    /* UIDs; when answering: as the client counts */
        uint64_t modseq_first, modseq_last, modseq_highest;     /* of the found ones */
        bool missing;
        struct err err;                         /* the first that is not just a message gone */
        bool answering;
        struct uidset_iter at;
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

#endif
