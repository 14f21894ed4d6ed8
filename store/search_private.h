/* search_private - between the files of search. */
#ifndef STORE_SEARCH_PRIVATE_H
#define STORE_SEARCH_PRIVATE_H

#include "store/search.h"
#include "util/charset.h"

enum tri { TRI_NO = 0, TRI_YES = 1, TRI_OPEN = 2 };

struct active {                                 /* keys that are open and matter, as indices */
        unsigned *v;
        unsigned n;
};

enum where {                                    /* what is being read */
        WHERE_NOTHING,                          /* the message is decided, or none was begun */
        WHERE_HEADER,                           /* the message's own header */
        WHERE_PART_HEADER,
        WHERE_TEXT,
};

struct search_eval {
        const struct search_program *program;
        struct search_message msg;
        uint8_t *value;                         /* enum tri of each key; content keys keep theirs, others are computed */
        struct active headers;                  /* HEADER and SENT… keys */
        struct active bodies, texts;            /* BODY, TEXT keys */
        enum where where;
        size_t part;                            /* the part being read */
        uint64_t at, end;                       /* in the segment being read, message offsets */
        char *raw;                              /* a window of the message, from raw_off, raw_n octets */
        uint64_t raw_off;
        size_t raw_n;
        struct str window;                      /* canonical text: a tail already searched and what came since */
        bool window_any;                        /* there is something new in it */
        struct str field;                       /* the header field being collected, raw, from its name on */
        bool field_cut;                         /* it is the continuation of one that was too long for one piece */
        bool field_gap;                         /* … whose last piece ended with a line */
        struct str field_name;
        struct str value_text;                  /* canonical text of a field's value: matched by HEADER keys */
        struct str scratch;
        struct casemap casemap;                 /* text that needs no decoding */
        struct text_stream *stream;             /* text that does */
};

/* All leaves whose answer is known without the octets, and what follows. Returns the value of the root. */
enum tri search_evaluate(struct search_eval *e);
/* Fill the three lists with the keys that the answer still depends on. */
void search_collect(struct search_eval *e);
enum tri search_sent(const struct search_key *k, int64_t day);

/* header fields: octets of a header block, cut anywhere; `last` with the final ones. Returns whether some key got its answer. */
bool search_header_feed(struct search_eval *e, struct span in, bool last, bool own_header);
/* Canonical text arrived in e->window. Look for the needles of these lists; keep what a needle could span. */
bool search_window(struct search_eval *e, bool in_header, bool end);

#endif
