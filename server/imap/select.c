/*
 * select - the life of a selected mailbox, and the announcing of news (RFC 9051 7.5, RFC 3501 7.3).
 *
 * What a client has been told is sel->view (EXISTS, EXPUNGE) and sel->told_modseq (flags). Announcing means to bring these two up to
 * what the mailbox publishes, and to say the difference. Own changes are told in the command's own replies: then told_modseq jumps
 * over them when nothing of others lies in between, else the UIDs are noted in sel->silent.
 */
#include "server/imap/seen.h"
#include "server/imap/search_context.h"
#include "server/imap/selected.h"
#include "server/imap/notify.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/urlkey.h"
#include "util/log.h"
#include "util/must.h"

#define EXPUNGES_AT_ONCE 4096                   /* then look whether the client reads them */
#define CHANGES_AT_ONCE 512

/* ---- life ---- */

static void watch_news(struct mailbox_watch *w)
{
        struct imap *imap = w->owner;

        session_wake(imap->s->id, WAKE_NEWS);
}

/* The rights under which something can be changed here (RFC 4314 5.2). */
#define CHANGING_RIGHTS (ACL_SEEN | ACL_WRITE | ACL_DELETEMSG | ACL_EXPUNGE | ACL_INSERT | ACL_ANNOTATE)

static void set_rights(struct imap *imap)
{
        struct imap_selected *sel = imap->sel;

        sel->rights = imap_rights(imap, sel->entry);
        sel->readonly = sel->examined || !(sel->rights & CHANGING_RIGHTS);
}

/* From now on these are \Recent here and nowhere else; who may change nothing only looks (RFC 3501 2.3.2, 6.3.2). Claim before taking the view: a
 * message that arrives in between is then recent for two sessions, not for none. */
static uint32_t recent_after(struct imap *imap)
{
        struct mailbox_status status;

        if (imap->rev2)
                return UINT32_MAX;
        if (!imap->sel->readonly)
                return mailbox_claim_recent(imap->sel->mbox);
        mailbox_status(imap->sel->mbox, &status);
        return status.recentuid;
}

static void add_recent(struct imap_selected *sel, uint32_t after, uint32_t told_uidnext)
{
        uint32_t first = after < told_uidnext - 1 ? told_uidnext : after + 1;

        if (after != UINT32_MAX && first < view_uidnext(sel->view))
                uidset_add_range(&sel->recent, first, view_uidnext(sel->view) - 1);
}

void imap_selected_begin(struct imap *imap, struct mailbox *mbox, const struct mbentry *entry, bool examine)
{
        struct imap_selected *sel = xcalloc(1, sizeof *sel);
        uint32_t after;

        must(!imap->sel);
        imap->sel = sel;
        imap->state = IMAP_SELECTED;
        sel->mbox = mbox;
        sel->entry = entry;
        sel->examined = examine;
        sel->watch.fn = watch_news;
        sel->watch.owner = imap;
        uidset_init(&sel->recent);
        uidset_init(&sel->silent);
        uidset_init(&sel->saved);
        sel->reader = mailbox_reader_id(imap->userid);
        sel->key_slot = urlkey_slot(imap->userid, entry->uniqueid);
        sel->key_resets = urlkey_resets(imap->store, sel->key_slot);
        set_rights(imap);
        after = recent_after(imap);
        sel->view = mailbox_view(mbox);
        sel->told_modseq = sel->complete_modseq = view_modseq(sel->view);
        add_recent(sel, after, 1);
        imap_watch_selected(imap);
}

void imap_watch_selected(struct imap *imap)
{
        struct imap_selected *sel = imap->sel;
        bool wanted = sel && !sel->vanished && (imap->idling || notify_watches_selected(imap));

        if (!sel || wanted == sel->watching)
                return;
        sel->watching = wanted;
        if (wanted)
                mailbox_watch(sel->mbox, &sel->watch);
        else
                mailbox_unwatch(sel->mbox, &sel->watch);
}

void imap_own_arrivals(struct imap *imap, const struct mailbox *mbox, uint32_t first_uid, uint32_t count)
{
        struct imap_selected *sel = imap->sel;

        if (sel && sel->mbox == mbox && count && imap->notify && imap->notify->fetch.len)
                uidset_add_range(&sel->own, first_uid, first_uid + count - 1);
}

void imap_unselect(struct imap *imap)
{
        struct imap_selected *sel = imap->sel;

        if (!sel)
                return;
        notify_deselect(imap);
        uidset_deinit(&sel->own);
        imap->sel = NULL;
        imap->state = IMAP_AUTH;
        if (sel->watching)
                mailbox_unwatch(sel->mbox, &sel->watch);
        search_contexts_end(sel);
        view_unref(&sel->view);
        seen_unref(&sel->seen);
        mailbox_unref(&sel->mbox);
        mbentry_unref(&sel->entry);
        uidset_deinit(&sel->recent);
        uidset_deinit(&sel->silent);
        uidset_deinit(&sel->saved);
        free(sel);
}

/* It may have another owner now, and \Seen be kept elsewhere. On an error it stays as it was until the mailbox is selected again. */
static void renamed(struct imap *imap)
{
        struct imap_selected *sel = imap->sel;
        struct err err = ERR_INIT;
        struct seen *seen;

        if (imap_seen_is_private(imap, sel->entry->name, sel->mbox) == (sel->seen != NULL))
                return;
        if (imap_seen_open(imap, sel->entry->name, sel->mbox, &seen, &err) < 0) {
                log_event(LOG_ERROR, imap->s->name, "imap.seen.failed", "reason=\"%s\"", err.text);
                return;
        }
        seen_unref(&sel->seen);
        sel->seen = seen;
}

void imap_selected_refresh(struct imap *imap)
{
        struct imap_selected *sel = imap->sel;
        const struct mbentry *now = mboxlist_find_uniqueid(store_mboxlist(imap->store), sel->entry->uniqueid);
        const char *deletedprefix = conf_str(imap->conf, NULL, "deletedprefix");

        if (mailbox_is_deleted(sel->mbox))
                sel->vanished = true;
        if (!now)
                return;
        if (now == sel->entry) {
                mbentry_unref(&now);
                return;
        }
        /* delete_mode: delayed. An admin may have selected what was deleted before. */
        sel->vanished |= deletedprefix && mailname_is_deleted(now->name, deletedprefix) && !mailname_is_deleted(sel->entry->name, deletedprefix);
        mbentry_unref(&sel->entry);
        sel->entry = now;
        renamed(imap);
        set_rights(imap);
        if (!sel->vanished && !(sel->rights & ACL_READ))                /* RFC 4314 4 lets it be; we do not: he would read on for days */
                sel->vanished = sel->revoked = true;
}

bool imap_selected_readable(struct imap *imap)
{
        imap_selected_refresh(imap);
        return !imap->sel->revoked;
}

bool imap_selected_lost(struct imap *imap)
{
        if (!imap->sel || !conf_switch(imap->conf, NULL, "disconnect_on_vanished_mailbox"))
                return false;
        imap_selected_refresh(imap);
        return imap->sel->vanished;
}

bool imap_selected_allows(struct imap *imap, const char **code_r, const char **text_r)
{
        struct imap_selected *sel = imap->sel;
        const struct imap_cmd *cmd = imap->cmd.cmd;
        bool writes = cmd->flags & CMD_WRITES;

        imap_selected_refresh(imap);
        *code_r = "NOPERM";
        *text_r = "Permission denied";
        if (!cmd->needs.selected && !writes)
                return true;
        if (sel->revoked)
                return false;
        if (writes && sel->vanished) {
                *code_r = "NONEXISTENT";
                *text_r = "The mailbox has been deleted";
                return false;
        }
        if (writes && sel->examined) {
                *code_r = "READ-ONLY";
                *text_r = "The mailbox is selected read-only";
                return false;
        }
        if (sel->vanished)
                return true;
        return (sel->rights & cmd->needs.selected) == cmd->needs.selected && (!cmd->needs.selected_any || sel->rights & cmd->needs.selected_any);
}

void imap_enable_condstore(struct imap *imap)
{
        bool first = !imap->condstore;

        imap->condstore = true;
        if (first && imap->sel)
                imap_untagged(imap, "OK [HIGHESTMODSEQ %" PRIu64 "] Highest", imap->sel->complete_modseq);
}

enum cmd_result imap_ok_expunged(struct imap *imap, const char *text)
{
        char code[48];

        if (!imap->condstore && !imap->qresync)
                return imap_ok(imap, NULL, "%s", text);
        snprintf(code, sizeof code, "HIGHESTMODSEQ %" PRIu64, imap->sel->complete_modseq);
        return imap_ok(imap, code, "%s", text);
}

/* ---- flags ---- */

void flag_text_deinit(struct flag_text *ft)
{
        str_deinit(&ft->keywords);
        ft->kwset = 0;
}

static void keywords_of(struct imap *imap, uint32_t kwset, struct flag_text *ft)
{
        struct mailbox *mbox = imap->sel->mbox;
        const struct kwset *set = mailbox_kwset(mbox, kwset);

        str_clear(&ft->keywords);
        ft->kwset = kwset;
        for (uint32_t i = 0; set && i < set->n; i++) {
                const char *name = mailbox_keyword_name(mbox, set->ids[i]);

                if (!name)                                      /* forgotten meanwhile, as no message has it any more */
                        continue;
                str_append_c(&ft->keywords, ' ');
                str_append_str(&ft->keywords, name);
        }
}

void imap_append_flags(struct imap *imap, const struct msg *m, struct flag_text *ft, struct str *out)
{
        static const struct { uint32_t bit; struct span name; } names[] = {
                { MSG_ANSWERED, { " \\Answered", 10 } },
                { MSG_FLAGGED, { " \\Flagged", 9 } },
                { MSG_DELETED, { " \\Deleted", 9 } },
                { MSG_DRAFT, { " \\Draft", 7 } },
                { MSG_SEEN, { " \\Seen", 6 } },
        };
        size_t from;

        str_append(out, "FLAGS (", 7);
        from = out->len;
        if (m->flags & MSG_SYSTEM_FLAGS)
                for (unsigned i = 0; i < 5; i++)
                        if (m->flags & names[i].bit)
                                str_append_span(out, names[i].name);
        if (m->kwset) {
                if (m->kwset != ft->kwset)
                        keywords_of(imap, m->kwset, ft);
                str_append_span(out, str_span(&ft->keywords));
        }
        if (imap->sel->recent.n && !imap->rev2 && uidset_has(&imap->sel->recent, m->uid))
                str_append(out, " \\Recent", 8);
        if (out->len > from) {                                  /* the first blank is one too many */
                memmove(out->data + from, out->data + from + 1, out->len - from - 1);
                str_truncate(out, out->len - 1);
        }
        str_append_c(out, ')');
}

bool imap_append_annotated(struct imap *imap, uint32_t uid, uint64_t since, struct str *out)
{
        struct arena arena = ARENA_INIT;
        const char **names;
        uint32_t n = mailbox_annot_names(imap->sel->mbox, uid, imap->userid, since, &arena, &names);

        if (n && out->data[out->len - 1] != '(')
                str_append_c(out, ' ');
        for (uint32_t i = 0; i < n; i++) {
                str_append_str(out, i ? " " : "ANNOTATION (");
                imap_append_astring(out, span_of(names[i]), imap->rev2 || imap->utf8);
        }
        if (n)
                str_append_c(out, ')');
        arena_deinit(&arena);
        return n > 0;
}

void imap_append_fetch(struct imap *imap, uint32_t uid, uint32_t seqno, struct str *out)
{
        str_append(out, "* ", 2);
        str_append_u64(out, imap->uidonly ? uid : seqno);
        str_append_str(out, imap->uidonly ? " UIDFETCH (" : " FETCH (");
}

/* Returns how many there were. */
static uint32_t put_keywords(struct imap *imap, uint32_t n)
{
        uint32_t named = 0;

        for (uint32_t i = 0; i < n; i++) {
                const char *name = mailbox_keyword_name(imap->sel->mbox, i);

                if (name)
                        imap_put(imap, " %s", name);
                named += name != NULL;
        }
        return named;
}

/* What this user may change of messages' flags. */
static uint32_t flag_rights(const struct imap_selected *sel)
{
        return sel->readonly ? 0 : sel->rights & (ACL_WRITE | ACL_DELETEMSG | ACL_SEEN);
}

/* RFC 9051 7.1 PERMANENTFLAGS: what this client may change, by its rights (RFC 4314 4). */
static void put_permanentflags(struct imap *imap, uint32_t keywords)
{
        static const struct { uint32_t right; const char *names; } flags[] = {
                { ACL_WRITE, "\\Answered \\Flagged \\Draft" }, { ACL_DELETEMSG, "\\Deleted" }, { ACL_SEEN, "\\Seen" },
        };
        uint32_t rights = flag_rights(imap->sel);
        const char *blank = "";

        imap_put(imap, "* OK [PERMANENTFLAGS (");
        for (unsigned i = 0; i < 3; i++)
                if (rights & flags[i].right) {
                        imap_put(imap, "%s%s", blank, flags[i].names);
                        blank = " ";
                }
        if (rights & ACL_WRITE)
                keywords = put_keywords(imap, keywords);
        imap_put(imap, "%s)] %s\r\n", (rights & ACL_WRITE) && keywords < KEYWORDS_MAX ? " \\*" : "",
                 rights ? "Permanent flags" : "No permanent flags permitted");
}

void imap_tell_keywords(struct imap *imap, bool always)
{
        struct imap_selected *sel = imap->sel;
        uint32_t now = mailbox_keyword_generation(sel->mbox), n;

        /* RFC 4314 4: rights that change while the mailbox is selected are told, too. */
        if (!always && sel->readonly != sel->readonly_told)
                imap_untagged(imap, sel->readonly ? "OK [READ-ONLY] Your rights were changed" : "OK [READ-WRITE] Your rights were changed");
        sel->readonly_told = sel->readonly;
        if (now == sel->keywords_told && flag_rights(sel) == sel->flag_rights_told && !always)
                return;
        sel->keywords_told = now;
        sel->flag_rights_told = flag_rights(sel);
        n = mailbox_keyword_count(imap->sel->mbox);
        imap_put(imap, "* FLAGS (\\Answered \\Flagged \\Draft \\Deleted \\Seen");
        put_keywords(imap, n);
        imap_put(imap, ")\r\n");
        put_permanentflags(imap, n);
}

/* ---- own changes ---- */

void imap_own_change(struct imap *imap, uint64_t modseq, const struct uidset *changed)
{
        struct imap_selected *sel = imap->sel;
        struct uidset others = UIDSET_INIT;
        struct err err = ERR_INIT;

        if (modseq == 0 || uidset_empty(changed))
                return;
        if (modseq > sel->told_modseq + 1 &&
            (mailbox_changed(sel->mbox, sel->view, sel->told_modseq, modseq - 1, 1, 1, &others, &err) < 0 || !uidset_empty(&others))) {
                uidset_copy(&sel->silent, changed);             /* what was there before is said once more: harmless */
                sel->silent_modseq = modseq;
        } else {
                sel->told_modseq = modseq;
                sel->poll_upto = 0;
        }
        uidset_deinit(&others);
}

/* ---- news ---- */

/* `uids` are gone: numbers as they are after each of those before (RFC 9051 7.5.1), or UIDs (RFC 7162 3.2.10.2). */
static void put_expunges(struct imap *imap, const struct uidset *uids)
{
        struct uidset_iter it = uidset_iter(uids);
        uint32_t uid, seqno, before = 0;
        struct str out = STR_INIT;

        if (imap->qresync || imap->uidonly) {
                imap_put_vanished(imap, uids, false);
                return;
        }
        while (uidset_next(&it, &uid)) {
                seqno = view_seqno(imap->sel->view, uid);
                if (seqno == 0)
                        continue;
                str_append(&out, "* ", 2);
                str_append_u64(&out, seqno - before++);
                str_append(&out, " EXPUNGE\r\n", 10);
        }
        rope_append_span(&imap->s->out, str_span(&out));
        str_deinit(&out);
}

/* The next n of a set. */
static void take(struct uidset_iter *it, unsigned n, struct uidset *out)
{
        uint32_t uid;

        uidset_clear(out);
        while (n-- > 0 && uidset_next(it, &uid))
                uidset_add(out, uid);
}

static void replace_view(struct imap_selected *sel, struct view *now)
{
        view_unref(&sel->view);
        sel->view = now;
}

/* Say what is gone. False: the client has enough to read for now; the rest is found again later. */
static bool tell_expunged(struct imap *imap, struct view *now)
{
        struct imap_selected *sel = imap->sel;
        struct uidset gone = UIDSET_INIT, some = UIDSET_INIT;
        struct uidset_iter it;
        uint32_t added;
        bool room = true;

        view_diff(sel->view, now, &gone, &added);
        it = uidset_iter(&gone);
        for (take(&it, EXPUNGES_AT_ONCE, &some); !uidset_empty(&some); take(&it, EXPUNGES_AT_ONCE, &some)) {
                room = imap->s->out.bytes <= ROPE_HIGH;
                if (!room)
                        break;
                search_contexts_expunge(imap, &some);
                put_expunges(imap, &some);
                replace_view(sel, view_expunge(sel->view, &some, view_modseq(sel->view)));
        }
        uidset_deinit(&gone);
        uidset_deinit(&some);
        return room;
}

static void tell_exists(struct imap *imap)
{
        struct imap_selected *sel = imap->sel;

        imap_untagged(imap, "%" PRIu32 " EXISTS", view_count(sel->view));
        if (!imap->rev2)
                imap_untagged(imap, "%" PRIu64 " RECENT", uidset_count(&sel->recent));
}

/* A view has no room for what arrived after it: only the UIDs that are there count as recent. */
static void trim_recent(struct imap_selected *sel)
{
        struct uidset there = UIDSET_INIT;

        if (uidset_empty(&sel->recent))
                return;
        view_existing_uids(sel->view, &sel->recent, &there);
        uidset_deinit(&sel->recent);
        sel->recent = there;
}

static bool tell_messages(struct imap *imap, bool may_expunge)
{
        struct imap_selected *sel = imap->sel;
        struct view *now = sel->vanished ? view_create_empty(view_uidnext(sel->view), view_modseq(sel->view)) : mailbox_view(sel->mbox);
        uint32_t told_uidnext = view_uidnext(sel->view), told_count, after;

        if (now == sel->view || (may_expunge && !tell_expunged(imap, now))) {
                bool nothing_new = now == sel->view;

                sel->delayed = !nothing_new;
                view_unref(&now);
                return nothing_new;
        }
        if (view_uidnext(now) > told_uidnext) {
                after = recent_after(imap);
                view_unref(&now);
                now = mailbox_view(sel->mbox);                  /* nothing that was claimed may be missing */
        } else {
                after = UINT32_MAX;
        }
        told_count = view_count(sel->view);
        replace_view(sel, view_extend(sel->view, now));
        sel->delayed = view_count(sel->view) > view_count(now);         /* all that is in `now` is in ours */
        view_unref(&now);
        add_recent(sel, after, told_uidnext);
        trim_recent(sel);
        if (view_count(sel->view) > told_count)
                tell_exists(imap);
        if (imap->notify && imap->notify->fetch.len && view_uidnext(sel->view) > told_uidnext) {
                uidset_add_range(&imap->notify->fresh, told_uidnext, view_uidnext(sel->view) - 1);
                uidset_subtract(&imap->notify->fresh, &sel->own);
                uidset_deinit(&sel->own);
        }
        return true;
}

/* Are changes of annotations told? By NOTIFY, if there was one, else by SELECT. */
static bool tells_annotations(const struct imap *imap)
{
        return imap->notify ? notify_selected_events(imap) & NOTIFY_ANNOTATIONS : imap->sel->annotate;
}

/*
 * Flags or annotations were changed by someone else, or by us without the client knowing the result. Which of them it was is known of
 * annotations alone: flags are told in any case, if they are wanted.
 */
static void put_changed(struct imap *imap, const struct msg *m, struct flag_text *ft, struct str *out)
{
        uint32_t seqno = view_seqno(imap->sel->view, m->uid);
        bool flags = notify_selected_events(imap) & NOTIFY_FLAGS, any = flags;
        size_t before = out->len;

        if (seqno == 0)
                return;
        imap_append_fetch(imap, m->uid, seqno, out);
        if (imap_unasked_uid(imap)) {
                str_append(out, "UID ", 4);
                str_append_u64(out, m->uid);
                if (flags)
                        str_append_c(out, ' ');
        }
        if (flags)
                imap_append_flags(imap, m, ft, out);
        if (tells_annotations(imap))
                any |= imap_append_annotated(imap, m->uid, imap->sel->told_modseq, out);
        if (!any) {
                str_truncate(out, before);
                return;
        }
        if (imap->condstore) {
                str_append(out, " MODSEQ (", 9);
                str_append_u64(out, m->modseq);
                str_append_c(out, ')');
        }
        str_append(out, ")\r\n", 3);
}

/* News about this one? Not if it has just arrived (the client will ask), if the client knows, if it is for a later round, or concerns
 * other users only (their \Seen). */
static bool is_news(const struct imap_selected *sel, const struct msg *m)
{
        uint64_t mine;

        if (m->uid == 0 || (m->flags & MSG_EXPUNGED) || m->modseq > sel->poll_upto)
                return false;
        mine = mailbox_news_modseq(sel->mbox, m->uid, m->modseq, sel->reader);
        if (mine <= sel->told_modseq || mine == m->createdmodseq)
                return false;
        return m->modseq > sel->silent_modseq || !uidset_has(&sel->silent, m->uid);
}

static void put_changes(struct imap *imap, const struct uidset *uids)
{
        struct imap_selected *sel = imap->sel;
        struct uidset_iter it = uidset_iter(uids);
        struct flag_text ft = FLAG_TEXT_INIT;
        struct msg msgs[WALK_MAX];
        uint32_t batch[WALK_MAX], n;
        struct str out = STR_INIT;
        struct err err = ERR_INIT;

        do {
                for (n = 0; n < WALK_MAX && uidset_next(&it, &batch[n]); n++)
                        ;
                if (n && imap_messages(imap, batch, n, msgs, &err) < 0) {
                        log_event(LOG_ERROR, imap->s->name, "imap.poll.failed", "reason=\"%s\"", err.text);
                        break;
                }
                imap_tell_keywords(imap, false);
                for (uint32_t i = 0; i < n; i++)
                        if (is_news(sel, &msgs[i]))
                                put_changed(imap, &msgs[i], &ft, &out);
                rope_append_span(&imap->s->out, str_span(&out));
                str_clear(&out);
        } while (n == WALK_MAX);
        str_deinit(&out);
        flag_text_deinit(&ft);
}

static void round_is_over(struct imap_selected *sel)
{
        if (sel->poll_upto > sel->told_modseq)
                sel->told_modseq = sel->poll_upto;
        sel->poll_upto = 0;
        if (sel->silent_modseq <= sel->told_modseq)
                uidset_deinit(&sel->silent);
}

/* One round: all that was published when it began. False: it goes on when the client has read. */
static bool tell_flags(struct imap *imap)
{
        struct imap_selected *sel = imap->sel;
        struct uidset changed = UIDSET_INIT;
        struct err err = ERR_INIT;

        if (sel->poll_upto == 0) {
                sel->poll_upto = view_modseq(sel->view);                /* not beyond the expunges that we know of */
                sel->poll_uid = 1;
        }
        while (sel->poll_upto > sel->told_modseq) {
                if (imap->s->out.bytes > ROPE_HIGH)
                        return false;
                uidset_clear(&changed);
                if (mailbox_changed(sel->mbox, sel->view, sel->told_modseq, sel->poll_upto, sel->poll_uid, CHANGES_AT_ONCE, &changed,
                                    &err) < 0) {
                        log_event(LOG_ERROR, imap->s->name, "imap.poll.failed", "reason=\"%s\"", err.text);
                        break;
                }
                if (uidset_empty(&changed))
                        break;
                put_changes(imap, &changed);
                sel->poll_uid = changed.ranges[changed.n - 1].last;
                if (sel->poll_uid == UINT32_MAX)
                        break;
                sel->poll_uid++;
        }
        uidset_deinit(&changed);
        round_is_over(sel);
        return true;
}

/*
 * A client that keeps modseqs takes the highest one it sees for what it has in full. While expunges are kept back that would be a
 * lie: after a lost connection it would never hear of them (RFC 7162 3.2, 6).
 */
static void tell_complete(struct imap *imap)
{
        struct imap_selected *sel = imap->sel;

        if (!sel->delayed)
                sel->complete_modseq = sel->told_modseq;
        else if (imap->condstore)
                imap_untagged(imap, "OK [HIGHESTMODSEQ %" PRIu64 "] Expunges are told later", sel->complete_modseq);
}

/* What the client wants to hear of (RFC 5465 3.1) – and what its own command did, whatever it wants to hear. */
static unsigned events_wanted(struct imap *imap)
{
        const struct imap_cmd *cmd = imap->cmd.cmd;
        unsigned events = notify_selected_events(imap);

        return cmd && (cmd->fn == cmd_expunge || cmd->fn == cmd_move || cmd->fn == cmd_replace) ? events | NOTIFY_EXPUNGE : events;
}

/* RFC 4467 7, RESETKEY: sessions of the same user that have the mailbox selected hear of a new key. */
static void tell_key(struct imap *imap)
{
        struct imap_selected *sel = imap->sel;
        uint32_t resets = urlkey_resets(imap->store, sel->key_slot);

        if (resets != sel->key_resets)
                imap_untagged(imap, "OK [URLMECH INTERNAL] The mailbox has a new key");
        sel->key_resets = resets;
}

bool imap_poll(struct imap *imap, bool may_expunge)
{
        unsigned events;

        if (!imap->sel)
                return true;
        imap_selected_refresh(imap);
        tell_key(imap);
        events = events_wanted(imap);
        if (!events)
                return true;
        if (!tell_messages(imap, may_expunge))
                return false;
        if (imap->sel->revoked)                         /* what happens there is not his to know */
                return true;
        imap_tell_keywords(imap, false);
        if (!(events & (NOTIFY_FLAGS | NOTIFY_ANNOTATIONS)))
                return search_contexts_poll(imap);
        if (!tell_flags(imap) || !search_contexts_poll(imap))
                return false;
        tell_complete(imap);
        return true;
}
