/* search_context - see search_context.h */
#include "server/imap/search_context.h"

#include <inttypes.h>
#include <stdlib.h>

#include "server/imap/fetch_private.h"
#include "util/log.h"
#include "util/must.h"

#define CHANGES_AT_ONCE 256

struct search_context {
        struct search_context *next;
        char *tag;
        bool uid, sorted;
        bool multi;                             /* of ESEARCH: its correlators (RFC 7377 2.1) */
        struct arena arena;                     /* the program */
        struct search_request req;
        struct sort_criteria criteria;
        struct uidset result;
        uint32_t *order, n, cap;                /* sorted: the result in order */
        /* what was looked at */
        uint64_t since, upto;                   /* changes up to `since` are in the result; a round up to `upto` is going on, 0: none */
        uint32_t at_uid;                        /* … from this one on */
        uint32_t known, uidnext;                /* messages from here on are new; and where those begin that the round does not know of */
        struct fetch_state *fetching;           /* the replies about new ones, before they are said to be in the result (RFC 5465 7) */
        bool running;
        struct search_run run;
        struct view *view;                      /* reference, of the run */
        struct uidset asked, matched;
};

/* ---- birth and death ---- */

static struct search_context *find(struct imap *imap, struct span tag)
{
        for (struct search_context *c = imap->sel ? imap->sel->contexts : NULL; c; c = c->next)
                if (span_eq_str(tag, c->tag))
                        return c;
        return NULL;
}

static unsigned count(const struct imap *imap)
{
        unsigned n = 0;

        for (const struct search_context *c = imap->sel->contexts; c; c = c->next)
                n++;
        return n;
}

static void end_fetch(struct search_context *c)
{
        if (!c->fetching)
                return;
        fetch_release(c->fetching);
        free(c->fetching);
        c->fetching = NULL;
}

static void end_run(struct search_context *c)
{
        end_fetch(c);
        if (c->running)
                search_run_end(&c->run);
        c->running = false;
        view_unref(&c->view);
        uidset_deinit(&c->asked);
        uidset_deinit(&c->matched);
}

void search_context_destroy(struct search_context **cp)
{
        struct search_context *c = *cp;

        *cp = NULL;
        if (!c)
                return;
        end_run(c);
        uidset_deinit(&c->result);
        arena_deinit(&c->arena);
        free(c->order);
        free(c->tag);
        free(c);
}

void search_contexts_end(struct imap_selected *sel)
{
        while (sel->contexts) {
                struct search_context *c = sel->contexts;

                sel->contexts = c->next;
                search_context_destroy(&c);
        }
}

static const struct uidset *keep_set(struct arena *arena, const struct uidset *set)
{
        struct uidset *kept = ARENA_NEW(arena, struct uidset);

        kept->n = kept->cap = set->n;
        kept->ranges = ARENA_ARRAY(arena, struct uidrange, set->n);
        if (set->n)
                memcpy(kept->ranges, set->ranges, set->n * sizeof *set->ranges);
        return kept;
}

/* Message numbers become the UIDs that they mean now, and so does `$`. */
static int freeze(struct imap *imap, struct search_context *c, struct err *err)
{
        struct search_program *p = c->req.program;

        for (unsigned i = 0; i < p->keys_n; i++) {
                struct search_key *k = p->by_index[i];
                struct uidset uids = UIDSET_INIT;

                if (k->op == SEARCH_UIDSET && k->set == &imap->sel->saved)
                        k->set = keep_set(&c->arena, k->set);
                if (k->op != SEARCH_SEQSET)
                        continue;
                if (view_seqnos_to_uids(imap->sel->view, k->set, &uids, err) < 0)
                        return -1;
                k->op = SEARCH_UIDSET;
                k->set = keep_set(&c->arena, &uids);
                uidset_deinit(&uids);
        }
        return 0;
}

static int parse(struct imap *imap, struct search_context *c, struct span text, struct err *err)
{
        struct search_sets sets = search_sets_selected(imap);
        struct imap_parser ip = imap->cmd.args;
        int rc;

        text = arena_span(&c->arena, text);
        ip.p = text.p;
        ip.end = text.p + text.len;
        ip.arena = &c->arena;
        ip.depth = 0;
        if (c->sorted) {
                rc = search_parse_return(&ip, &c->req);
                if (rc == 0)
                        rc = sort_criteria_parse(&ip, &c->criteria);
                if (rc == 0)
                        rc = imap_sp(&ip);
                if (rc == 0)
                        rc = search_parse_charset_keys(&ip, &sets, &c->req);
        } else {
                rc = search_parse(&ip, &sets, &c->req);
        }
        if (rc < 0) {
                err_copy(err, &ip.err);
                return -1;
        }
        return freeze(imap, c, err);
}

static void refuse(struct imap *imap, const char *why)
{
        struct str tag = STR_INIT;

        for (size_t i = 0; i < imap->cmd.tag.len; i++) {        /* quoted (RFC 5267 5) */
                if (imap->cmd.tag.p[i] == '"' || imap->cmd.tag.p[i] == '\\')
                        str_append_c(&tag, '\\');
                str_append_c(&tag, imap->cmd.tag.p[i]);
        }
        imap_put(imap, "* NO [NOUPDATE \"");
        imap_put_span(imap, str_span(&tag));
        imap_put(imap, "\"] %s\r\n", why);
        str_deinit(&tag);
}

/* Relevancy depends on what else was found, annotations change: such an order is not kept up. */
static bool order_changes(const struct search_context *c)
{
        bool changes = c->criteria.uses_annotations;

        for (unsigned i = 0; i < c->criteria.n; i++)
                changes |= c->criteria.v[i].by == SORT_RELEVANCY;
        return changes;
}

bool search_context_create(struct imap *imap, struct span text, bool sorted, struct search_context **c_r)
{
        struct search_context *c;
        struct err err = ERR_INIT;

        *c_r = NULL;
        if (find(imap, imap->cmd.tag)) {
                imap_bad(imap, "The tag is in use by a search that is kept up to date");
                return false;
        }
        if (count(imap) >= SEARCH_CONTEXTS_MAX) {
                refuse(imap, "Too many contexts");
                return true;
        }
        c = xcalloc(1, sizeof *c);
        arena_init(&c->arena);
        c->tag = xstrndup(imap->cmd.tag.p, imap->cmd.tag.len);
        c->multi = imap->cmd.cmd->fn == cmd_esearch;
        c->uid = imap->cmd.uid || c->multi;
        c->sorted = sorted;
        c->since = imap->sel->told_modseq;
        c->known = view_uidnext(imap->sel->view);
        if (parse(imap, c, text, &err) < 0 || order_changes(c)) {
                search_context_destroy(&c);
                refuse(imap, "This order is not kept up to date");
        }
        *c_r = c;
        return true;
}

void search_context_keep(struct imap *imap, struct search_context **cp, const struct uidset *result, const uint32_t *order, uint32_t n)
{
        struct search_context *c = *cp;

        *cp = NULL;
        if (!c)
                return;
        uidset_copy(&c->result, result);
        if (c->sorted) {
                c->n = c->cap = n;
                c->order = xmalloc((n ? n : 1) * sizeof *c->order);
                memcpy(c->order, order, n * sizeof *order);
        }
        c->next = imap->sel->contexts;
        imap->sel->contexts = c;
}

/* ---- telling ---- */

/* Who enables UIDONLY hears of no message numbers any more, whatever he asked for before (RFC 9586 3). */
static bool by_uid(const struct imap *imap, const struct search_context *c)
{
        return c->uid || imap->uidonly;
}

static void append_number(struct imap *imap, const struct search_context *c, uint32_t uid, struct str *out)
{
        str_append_u64(out, by_uid(imap, c) ? uid : view_seqno(imap->sel->view, uid));
}

static void tell(struct imap *imap, const struct search_context *c, const char *what, const struct str *list)
{
        imap_put(imap, "* ESEARCH (TAG ");
        imap_put_string(imap, span_of(c->tag));
        if (c->multi) {
                struct mailbox_status status;

                mailbox_status(imap->sel->mbox, &status);
                imap_put(imap, " MAILBOX ");
                imap_put_mailbox(imap, imap->sel->entry->name);
                imap_put(imap, " UIDVALIDITY %" PRIu32, status.uidvalidity);
        }
        imap_put(imap, by_uid(imap, c) ? ") UID %s (" : ") %s (", what);
        imap_put_span(imap, str_span(list));
        imap_put(imap, ")\r\n");
}

/* Of SEARCH: in mailbox order, without positions (RFC 5267 4.3.3). */
static void tell_set(struct imap *imap, const struct search_context *c, const char *what, const struct uidset *uids)
{
        struct uidset seqnos = UIDSET_INIT;
        struct str list = STR_INIT;

        if (uidset_empty(uids))
                return;
        str_append_str(&list, "0 ");
        if (!by_uid(imap, c))
                imap_uids_to_seqnos(imap, uids, &seqnos);
        uidset_append(by_uid(imap, c) ? uids : &seqnos, &list);
        if (by_uid(imap, c) || !uidset_empty(&seqnos))
                tell(imap, c, what, &list);
        str_deinit(&list);
        uidset_deinit(&seqnos);
}

/* Of SORT: runs that stand together, from the last to the first, so that the positions of those before stay right. */
static void remove_ordered(struct imap *imap, struct search_context *c, const struct uidset *uids)
{
        struct str list = STR_INIT;
        uint32_t end, kept = 0;

        for (uint32_t i = c->n; i > 0; i = end) {
                uint32_t first;

                end = i - 1;
                if (!uidset_has(uids, c->order[i - 1]))
                        continue;
                for (first = i - 1; first > 0 && uidset_has(uids, c->order[first - 1]); first--)
                        ;
                if (list.len)
                        str_append_c(&list, ' ');
                str_append_u64(&list, first + 1);
                for (uint32_t k = first; k < i; k++) {
                        str_append_c(&list, k > first ? ',' : ' ');
                        append_number(imap, c, c->order[k], &list);
                }
                end = first;
        }
        if (list.len)
                tell(imap, c, "REMOVEFROM", &list);
        for (uint32_t i = 0; i < c->n; i++)
                if (!uidset_has(uids, c->order[i]))
                        c->order[kept++] = c->order[i];
        c->n = kept;
        str_deinit(&list);
}

static void take_out(struct imap *imap, struct search_context *c, struct uidset *uids)
{
        uidset_intersect(uids, &c->result);
        if (uidset_empty(uids))
                return;
        if (c->sorted)
                remove_ordered(imap, c, uids);
        else
                tell_set(imap, c, "REMOVEFROM", uids);
        uidset_subtract(&c->result, uids);
}

static bool never_over(void *ctx)
{
        (void)ctx;
        return false;
}

/* Is `uid` before `other`? What is sorted by never changes, so both are asked afresh instead of being kept. One of them gone: as in the mailbox. */
static bool is_before(struct imap *imap, const struct search_context *c, uint32_t uid, uint32_t other)
{
        const uint32_t uids[2] = { uid < other ? uid : other, uid < other ? other : uid };
        struct sort_set set = { 0 };
        struct sort_order order = { .criteria = &c->criteria, .set = &set };
        const struct sort_facts *facts[2];
        struct sort_wanted wanted[2];
        struct sort_loader loader;
        struct msg msgs[2];
        struct err err = ERR_INIT;
        uint32_t done = 0;
        bool before = uid < other;

        if (mailbox_messages(imap->sel->mbox, uids, 2, msgs, &err) < 0 || !msgs[0].uid || !msgs[1].uid)
                return before;
        sort_set_found(&set, &msgs[0], 0);
        sort_set_found(&set, &msgs[1], 0);
        for (unsigned i = 0; i < 2; i++)
                wanted[i] = (struct sort_wanted){ set.v[i].uid, set.v[i].check };
        sort_loader_init(&loader, imap->sel->mbox);
        if (c->criteria.uses_facts)
                sort_loader_run(&loader, wanted, facts, 2, &done, never_over, NULL);
        set.facts = facts;
        before = (sort_order_compare(&order, 0, 1) < 0) == before;
        set.facts = NULL;
        sort_loader_deinit(&loader);
        sort_set_deinit(&set);
        return before;
}

static uint32_t place_of(struct imap *imap, const struct search_context *c, uint32_t uid)
{
        uint32_t low = 0, high = c->n;

        while (low < high) {
                uint32_t mid = low + (high - low) / 2;

                if (is_before(imap, c, uid, c->order[mid]))
                        high = mid;
                else
                        low = mid + 1;
        }
        return low;
}

static void insert_ordered(struct imap *imap, struct search_context *c, const struct uidset *uids)
{
        struct uidset_iter it = uidset_iter(uids);
        struct str list = STR_INIT;
        uint32_t uid;

        while (uidset_next(&it, &uid)) {
                uint32_t at = place_of(imap, c, uid);

                if (c->n == c->cap) {
                        c->cap += c->cap / 2 + 64;
                        c->order = xrealloc(c->order, c->cap * sizeof *c->order);
                }
                memmove(c->order + at + 1, c->order + at, (c->n++ - at) * sizeof *c->order);
                c->order[at] = uid;
                if (list.len)
                        str_append_c(&list, ' ');
                str_append_u64(&list, at + 1);
                str_append_c(&list, ' ');
                append_number(imap, c, uid, &list);
        }
        if (list.len)
                tell(imap, c, "ADDTO", &list);
        str_deinit(&list);
}

static void put_in(struct imap *imap, struct search_context *c, struct uidset *uids)
{
        uidset_subtract(uids, &c->result);
        if (uidset_empty(uids))
                return;
        if (c->sorted)
                insert_ordered(imap, c, uids);
        else
                tell_set(imap, c, "ADDTO", uids);
        uidset_add_set(&c->result, uids);
}

void search_contexts_expunge(struct imap *imap, const struct uidset *gone)
{
        for (struct search_context *c = imap->sel->contexts; c; c = c->next) {
                struct uidset uids = UIDSET_INIT;

                uidset_copy(&uids, gone);
                take_out(imap, c, &uids);
                uidset_deinit(&uids);
        }
}

/* ---- what was changed ---- */

static void found(void *ctx, const struct msg *m, uint32_t seqno)
{
        struct search_context *c = ctx;

        (void)seqno;
        uidset_add(&c->matched, m->uid);
}

/* Begin to search the next changed messages. 0: there are none any more in this round; -1: err. */
static int begin_some(struct imap *imap, struct search_context *c, struct err *err)
{
        struct imap_selected *sel = imap->sel;
        struct uidset among = UIDSET_INIT;

        uidset_init(&c->asked);
        uidset_init(&c->matched);
        if (mailbox_changed(sel->mbox, sel->view, c->since, c->upto, c->at_uid, CHANGES_AT_ONCE, &c->asked, err) < 0)
                return -1;
        if (uidset_empty(&c->asked))
                return 0;
        uidset_copy(&among, &c->asked);
        memset(&c->run, 0, sizeof c->run);
        search_run_selected(&c->run, imap);
        c->view = view_ref(sel->view);
        c->run.view = c->view;
        c->run.program = c->req.program;
        c->run.found = found;
        c->run.ctx = c;
        c->run.no_wait = true;
        if (search_run_begin(&c->run, &among, err) < 0) {
                uidset_deinit(&among);
                return -1;
        }
        c->running = true;
        return 1;
}

/* RFC 5465 7: FETCH of those that are new in the mailbox, not of those whose flags changed. */
static void begin_fetch(struct imap *imap, struct search_context *c)
{
        struct uidset fresh = UIDSET_INIT;

        uidset_add_range(&fresh, c->known, UINT32_MAX);
        uidset_intersect(&fresh, &c->matched);
        uidset_subtract(&fresh, &c->result);
        if (!uidset_empty(&fresh)) {
                c->fetching = xcalloc(1, sizeof *c->fetching);
                fetch_init(imap, c->fetching);
                fetch_parse_kept(c->req.update, &c->fetching->arena_request, &c->fetching->req);
                c->fetching->req.sets_seen = false;             /* nobody has asked for the message yet */
                fetch_begin(c->fetching, &fresh);
                c->fetching->walk.no_wait = true;
        }
        uidset_deinit(&fresh);
}

/* False: call again. */
static bool go_on_fetching(struct imap *imap, struct search_context *c)
{
        switch (fetch_step(imap, c->fetching)) {
        case CMD_DONE:
                break;
        case CMD_CLOSE:                                         /* within a literal: the connection is of no use any more */
                session_wake(imap->s->id, WAKE_STOP);
                break;
        default:
                fetch_flush(imap, c->fetching);
                return false;
        }
        end_fetch(c);
        return true;
}

static void put_some(struct imap *imap, struct search_context *c)
{
        uint32_t last = c->asked.ranges[c->asked.n - 1].last;

        put_in(imap, c, &c->matched);
        c->at_uid = last < UINT32_MAX ? last + 1 : last;
        end_run(c);
}

static void end_some(struct imap *imap, struct search_context *c)
{
        struct uidset out = UIDSET_INIT;

        uidset_copy(&out, &c->asked);
        uidset_subtract(&out, &c->matched);
        take_out(imap, c, &out);
        uidset_deinit(&out);
        if (c->req.update.len)
                begin_fetch(imap, c);
        if (!c->fetching)
                put_some(imap, c);
}

static bool bring_up(struct imap *imap, struct search_context *c)
{
        struct err err = ERR_INIT;
        int rc = 1;

        if (!c->upto && c->since < imap->sel->told_modseq) {
                c->upto = imap->sel->told_modseq;
                c->uidnext = view_uidnext(imap->sel->view);
                c->at_uid = 1;
        }
        while (c->upto && rc > 0) {
                if (imap->s->out.bytes > ROPE_HIGH || session_slice_over(imap->s))
                        return false;
                if (c->fetching) {
                        if (!go_on_fetching(imap, c))
                                return false;
                        put_some(imap, c);
                }
                if (!c->running)
                        rc = begin_some(imap, c, &err);
                if (c->running) {
                        if (search_run_step(&c->run) != CMD_DONE)
                                return false;
                        end_some(imap, c);
                }
        }
        if (rc < 0) {
                log_event(LOG_ERROR, imap->s->name, "imap.context.failed", "reason=\"%s\"", err.text);
                end_run(c);
        }
        if (c->upto) {
                c->since = c->upto;
                c->known = c->uidnext;
        }
        c->upto = 0;
        return true;
}

bool search_contexts_poll(struct imap *imap)
{
        for (struct search_context *c = imap->sel->contexts; c; c = c->next)
                if (!bring_up(imap, c))
                        return false;
        return true;
}

bool search_context_cancel(struct imap *imap, struct span tag)
{
        struct search_context **at = &imap->sel->contexts, *c = find(imap, tag);

        if (!c)
                return false;
        while (*at != c)
                at = &(*at)->next;
        *at = c->next;
        search_context_destroy(&c);
        return true;
}

bool search_context_exists(struct imap *imap, struct span tag)
{
        return find(imap, tag) != NULL;
}
