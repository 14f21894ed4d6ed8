/*
 * selected - what the commands of the selected state share: their message sets, walking through messages in batches, and flags as
 * text. Between the files of server/imap only.
 */
#ifndef SERVER_IMAP_SELECTED_H
#define SERVER_IMAP_SELECTED_H

#include "server/imap/cmds.h"

/* ---- select.c ---- */

/*
 * The mailbox of `entry` (references to both are taken over) is selected: view, \Recent, rights. Replies nothing.
 *   examine  as EXAMINE does
 */
void imap_selected_begin(struct imap *imap, struct mailbox *mbox, const struct mbentry *entry, bool examine);

/* Watch it for news while IDLE or NOTIFY want it, and only then. */
void imap_watch_selected(struct imap *imap);

/* Messages that this session's command has put there: NOTIFY does not tell of them (RFC 5465 5.2). */
void imap_own_arrivals(struct imap *imap, const struct mailbox *mbox, uint32_t first_uid, uint32_t count);

/* Look whether the entry was changed: rights, name; whether the mailbox is gone. Cheap; each command of the selected state begins with it. */
void imap_selected_refresh(struct imap *imap);

/* The same; false: the right to read it is gone. Nothing is said: FETCH is not the only one that asks (NOTIFY, searches that are kept up to date). */
bool imap_selected_readable(struct imap *imap);
/* Does the selected mailbox take the command at hand: are the rights there that its row asks for, and may the mailbox be changed if that is
 * what it does? Otherwise what the NO is to say. The dispatcher's. */
bool imap_selected_allows(struct imap *imap, const char **code_r, const char **text_r);

/* Say FLAGS and PERMANENTFLAGS: with `always`, or when there are keywords that this client has not heard of. */
void imap_tell_keywords(struct imap *imap, bool always);

/*
 * This session changed the flags of `changed` at `modseq`, and the client knows or is about to be told. Keeps imap_poll() from
 * repeating it, and from losing what others changed in between.
 */
void imap_own_change(struct imap *imap, uint64_t modseq, const struct uidset *changed);

/* The keywords of the last set of keywords as text; a plain value for a loop over messages. */
struct flag_text {
        uint32_t kwset;
        struct str keywords;                    /* each with a blank in front */
};
#define FLAG_TEXT_INIT { 0, STR_INIT }
void flag_text_deinit(struct flag_text *ft);
/* Append "FLAGS (…)". */
void imap_append_flags(struct imap *imap, const struct msg *m, struct flag_text *ft, struct str *out);

/* Append "ANNOTATION (/comment …)", with a blank in front unless it is the first in the parentheses: which annotations of a message were changed
 * since `since` (RFC 5257 4.4). False: none was, nothing was appended. */
bool imap_append_annotated(struct imap *imap, uint32_t uid, uint64_t since, struct str *out);

/* "* n FETCH (", or "* uid UIDFETCH (" for who asked for UIDs only (RFC 9586). */
void imap_append_fetch(struct imap *imap, uint32_t uid, uint32_t seqno, struct str *out);

/* False: there are message numbers in the search, and the client has said that it uses none (RFC 9586): the tagged BAD was sent. */
static inline bool imap_numbers_allowed(struct imap *imap)
{
        if (imap->uidonly && imap->cmd.seqnos)
                imap_bad(imap, "[UIDREQUIRED] Message numbers are not used any more");
        return !imap->uidonly || !imap->cmd.seqnos;
}

/* Does this client get UID and MODSEQ in FETCH replies that it did not ask for? */
static inline bool imap_unasked_uid(const struct imap *imap)
{
        return !imap->uidonly && (imap->rev2 || imap->condstore || imap->cmd.uid || imap->notify);      /* RFC 9051 7.5.2, RFC 7162 3.2.4,
                                                                                                         * RFC 5465 5.1 */
}

/* ---- vanished.c: QRESYNC (RFC 7162 3.2) ---- */

/* "* VANISHED uids", in lines of bounded length; `earlier`: with (EARLIER). Nothing for an empty set. */
void imap_put_vanished(struct imap *imap, const struct uidset *uids, bool earlier);

/*
 * What vanished of a set of UIDs since a modseq, told as VANISHED (EARLIER) a range of UIDs at a time. What this client's view still
 * shows is left out: its turn comes with VANISHED alone. A plain value, to be ended by vanished_deinit().
 */
struct vanished {
        struct uidset asked;
        uint64_t since;
        uint64_t next;                          /* UIDs below are done */
        uint32_t range;                         /* of asked: where `next` is */
};
/* `asked` is taken over. UIDs that were never given do not count. */
void vanished_init(struct imap *imap, struct vanished *v, struct uidset *asked, uint64_t since);
void vanished_deinit(struct vanished *v);
/* CMD_DONE: all is told. CMD_AGAIN, CMD_FLUSH: call again. -1 in *failed: err; call no more. */
enum cmd_result vanished_tell(struct imap *imap, struct vanished *v, bool *failed, struct err *err);

/* SELECT's parameter QRESYNC (RFC 7162 3.2.5). */
struct qresync {
        bool given;
        uint32_t uidvalidity;
        uint64_t since;
        bool has_known;
        struct uidset known;                    /* UIDs */
        struct uidset match_seqnos, match_uids; /* of the same size; both empty: not given */
};
/* After the word QRESYNC. Returns 0, or -1 with ip->err. The sets are the caller's to end in either case: qresync_deinit(). */
int qresync_parse(struct imap_parser *ip, struct qresync *q);
void qresync_deinit(struct qresync *q);
/* The UIDs to tell about, when the mailbox is selected: what is known, above what the match data proves to be known already in
 * `vanished_r`, all of it in `known_r`. */
void qresync_wanted(struct imap *imap, struct qresync *q, struct uidset *known_r, struct uidset *vanished_r);

/* ---- walk.c ---- */

/* A set as argument: sequence numbers, UIDs in the UID form, or `$` → the UIDs of it that are in the view. False: the tagged BAD was
 * sent. uids_r is initialised and the caller's to end in either case. */
bool imap_arg_messages(struct imap *imap, struct uidset *uids_r);

/* The same for a text that was already taken off the arguments; in err what is wrong. */
int imap_message_set(struct imap *imap, struct span text, bool uid, struct uidset *uids_r, struct err *err);

/* UIDs were just taken from a view; `unreadable_before` is view_unreadable() of before, on this thread. ERR_IO: they are not the real
 * ones, as the index cannot be read now. */
int imap_uids_read(uint64_t unreadable_before, struct err *err);

/* The sequence numbers of these UIDs in the view. */
void imap_uids_to_seqnos(struct imap *imap, const struct uidset *uids, struct uidset *seqnos_r);

/*
 * A set of messages, gone through in batches from the lowest. Between two batches, or when only some of a batch were handled, the
 * command may be parked: the rest is read afresh then.
 */
#define WALK_MAX 64
struct walk {
        struct mailbox *mbox;                   /* borrowed; NULL: the selected one */
        struct view *view;
        struct seen *seen;                      /* its \Seen of this user; NULL: flags */
        bool no_wait;                           /* never WALK_WAIT */
        struct uidset uids;
        struct uidset_iter at;                  /* handled up to here */
};
struct walk_batch {                             /* some 9 KiB: on the stack */
        uint32_t n;
        uint32_t uid[WALK_MAX];
        uint32_t seqno[WALK_MAX];
        struct msg msg[WALK_MAX];               /* uid 0: purged */
};
enum walk_result {
        WALK_END,
        WALK_BATCH,                             /* at least one */
        WALK_WAIT,                              /* the next one's flags are not published yet: return CMD_WAIT */
        WALK_FAILED,                            /* err */
};
/* Takes the set over. The walk must stay in place. */
void walk_init(struct walk *w, struct uidset *uids);
/* The same in a mailbox that is not the selected one. */
void walk_init_in(struct walk *w, struct mailbox *mbox, struct view *view, struct seen *seen, struct uidset *uids);
void walk_deinit(struct walk *w);
enum walk_result walk_fill(struct imap *imap, struct walk *w, struct walk_batch *b, struct err *err);
/* The first n of the batch are done. */
void walk_done(struct walk *w, uint32_t n);

/* Wait for the command's waiter, which the store has taken on. */
static inline enum cmd_result imap_wait(struct imap *imap)
{
        imap->cmd.waiting = true;
        return CMD_WAIT;
}

/* After imap_wait(): did it work? Else err is filled. */
int imap_waited(struct imap *imap, struct err *err);

/* Pause when the slice is over or enough is waiting to be sent; CMD_DONE means: go on. */
static inline enum cmd_result imap_yield(struct imap *imap)
{
        if (imap->s->out.bytes > ROPE_HIGH)
                return CMD_FLUSH;
        return session_slice_over(imap->s) ? CMD_AGAIN : CMD_DONE;
}

/* The tagged OK of a command that expunged: with HIGHESTMODSEQ for who keeps modseqs (RFC 7162 3.2.7). */
enum cmd_result imap_ok_expunged(struct imap *imap, const char *text);

#endif
