/*
 * callout - annotation_callout: a program, or one that listens on a Unix socket, is told of each message that arrives, or again of one that is there
 * (XRUNANNOTATOR), and may add flags and annotations to it or take them away. What they say to each other is Cyrus's protocol:
 *
 *   to it    "<octets>\n(FILENAME "…" ANNOTATIONS ("/comment" ("value.shared" "…") …) FLAGS (\seen …) BODY (…) GUID <hex>)0\n"
 *   from it  (+FLAGS (\Flagged x) -FLAGS \Seen ANNOTATION (/comment (value.shared "…") (value.priv "…")))
 *
 * BODY is BODYSTRUCTURE with "(OFFSET n HEADERSIZE n)" at the end of each part that is no multipart. A program gets it on its standard input and
 * answers on its standard output. Parsing and rendering work, and fuzz, without a server.
 */
#ifndef SERVER_CALLOUT_H
#define SERVER_CALLOUT_H

#include "store/annot.h"
#include "store/mailbox.h"
#include "util/arena.h"
#include "util/conf.h"
#include "util/err.h"

#define CALLOUT_SECONDS 10                      /* from the beginning to the end of the answer; then the message goes on without one */
#define CALLOUT_REPLY_MAX ((size_t)1 << 20)     /* octets */
#define CALLOUT_CHANGES_MAX 1000                /* flags, or annotations, in one answer */

struct callout_message {
        struct stage *stage;                    /* finished, not a piece */
        uint32_t flags;                         /* MSG_SYSTEM_FLAGS */
        const struct span *keywords;
        uint32_t keyword_count;
        const struct annot *annots;             /* user "": shared */
        uint32_t annots_n;
};

struct callout_annot {
        const char *entry;                      /* "/comment" */
        bool private;
        struct span value;                      /* p NULL: none */
};

struct callout_answer {                         /* in the arena */
        uint32_t flags;                         /* the message's, as they are to be … */
        struct span *keywords;                  /* … and its keywords */
        uint32_t keyword_count;
        struct callout_annot *annots;           /* to be set besides, in order */
        uint32_t annots_n;
        bool odd;                               /* there was something that nobody understands: what stood before it counts */
};

/* Ask. Blocks, for CALLOUT_SECONDS at most. -1: the message is to go on as it is; ERR_TIMEOUT, ERR_IO, ERR_SYNTAX … */
int callout_run(const char *path, const struct callout_message *m, struct arena *arena, struct callout_answer *a, struct err *err);

/*
 * ---- for who takes messages in ----
 * callout_path(): whom to ask; NULL: nobody is. callout_ask(): callout_run(), and what went wrong is in the log; false: there is no answer.
 * callout_annots(): what annotations a new message gets then, m's among them; callout_changes(): what is to be set of one that is there, value.p
 * NULL: removed. In the arena; what nobody may have is in the log instead. All but the first block.
 *   again    for a message that is there already: annotation_callout_disable_append is about these, in spite of its name
 *   session  its name, for the log
 *   user     whose the private ones are; "": nobody's
 */
const char *callout_path(const struct conf *conf, const char *service, bool again);
bool callout_ask(const char *path, const char *session, const struct callout_message *m, struct arena *arena, struct callout_answer *a);
uint32_t callout_annots(struct store *store, struct conf *conf, const char *session, const char *user, const struct callout_message *m,
                        const struct callout_answer *a, struct arena *arena, struct annot **list_r);
uint32_t callout_changes(struct store *store, struct conf *conf, const char *session, const char *user, const struct callout_answer *a,
                         struct arena *arena, struct annot **list_r);

/* What is told, without the counts around it. */
void callout_render(const struct callout_message *m, const char *file, struct str *out);
/* 1: all of the answer is there, and in *a; 0: it is not whole yet; -1: it is none. */
int callout_parse(struct span reply, const struct callout_message *m, struct arena *arena, struct callout_answer *a);

#endif
