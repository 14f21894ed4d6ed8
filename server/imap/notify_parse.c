/* notify_parse - the grammar of NOTIFY (RFC 5465 8); see notify.h */
#include "server/imap/notify.h"

#include "util/array.h"

static const struct { const char *name; unsigned event; } events[] = {
        { "MessageNew", NOTIFY_NEW }, { "MessageExpunge", NOTIFY_EXPUNGE }, { "FlagChange", NOTIFY_FLAGS },
        { "AnnotationChange", NOTIFY_ANNOTATIONS },
        { "MailboxName", NOTIFY_NAME }, { "SubscriptionChange", NOTIFY_SUBSCRIPTION },
        { "MailboxMetadataChange", NOTIFY_METADATA }, { "ServerMetadataChange", NOTIFY_SERVER },
};
const char notify_known_events[] = "MessageNew MessageExpunge FlagChange AnnotationChange MailboxName SubscriptionChange "
                                   "MailboxMetadataChange ServerMetadataChange";

static const struct { const char *name; enum notify_which which; } filters[] = {
        { "SELECTED", NOTIFY_SELECTED }, { "SELECTED-DELAYED", NOTIFY_SELECTED_DELAYED }, { "INBOXES", NOTIFY_INBOXES },
        { "PERSONAL", NOTIFY_PERSONAL }, { "SUBSCRIBED", NOTIFY_SUBSCRIBED }, { "SUBTREE", NOTIFY_SUBTREE },
        { "MAILBOXES", NOTIFY_MAILBOXES },
};

static int wrong(struct imap_parser *ip, const char *text)
{
        return err_set(&ip->err, ERR_SYNTAX, "%s", text);
}

/* A name out of rule names nothing that exists: ignored (RFC 5465 3.1). */
static int add_name(struct imap_parser *ip, const struct namer *who, struct notify *n, struct notify_group *g)
{
        struct err ignored = ERR_INIT;
        const char *internal;
        struct span name;

        if (imap_astring(ip, &name) < 0)
                return -1;
        if (n->names_n++ == NOTIFY_NAMES_MAX)
                return err_set(&ip->err, ERR_LIMIT, "More than %d mailboxes", NOTIFY_NAMES_MAX);
        if (mailname_internal(who, name, &n->arena, &internal, &ignored) < 0)
                return 0;
        if ((g->names_n & (g->names_n - 1)) == 0) {             /* room for the next power of two */
                const char **more = ARENA_ARRAY(&n->arena, const char *, g->names_n ? 2 * g->names_n : 1);

                memcpy(more, g->names ? g->names : more, g->names_n * sizeof *more);
                g->names = more;
        }
        g->names[g->names_n++] = internal;
        return 0;
}

static int parse_names(struct imap_parser *ip, const struct namer *who, struct notify *n, struct notify_group *g)
{
        if (imap_sp(ip) < 0)
                return -1;
        if (!imap_peek_c(ip, '('))
                return add_name(ip, who, n, g);
        if (imap_open_paren(ip) < 0)
                return -1;
        do {
                if (add_name(ip, who, n, g) < 0)
                        return -1;
        } while (imap_skip_c(ip, ' '));
        return imap_close_paren(ip);
}

static int parse_filter(struct imap_parser *ip, const struct namer *who, struct notify *n, struct notify_group *g)
{
        struct span word;

        if (imap_atom(ip, &word) < 0)
                return -1;
        for (size_t i = 0; i < ARRAY_LEN(filters); i++) {
                if (!imap_word_is(word, filters[i].name))
                        continue;
                g->which = filters[i].which;
                if (g->which <= NOTIFY_SELECTED_DELAYED && n->has_selected)
                        return wrong(ip, "SELECTED stands twice");                      /* RFC 5465 6.1 */
                n->has_selected |= g->which <= NOTIFY_SELECTED_DELAYED;
                n->delayed |= g->which == NOTIFY_SELECTED_DELAYED;
                return g->which >= NOTIFY_SUBTREE ? parse_names(ip, who, n, g) : 0;
        }
        return wrong(ip, "Unknown mailbox specifier of NOTIFY");
}

/* "(" fetch-att *(SP fetch-att) ")": kept as text, read anew each time. */
static int parse_attributes(struct imap_parser *ip, struct notify *n, const struct notify_group *g)
{
        struct fetch_request request;
        const char *start = ip->p;

        if (g->which > NOTIFY_SELECTED_DELAYED)
                return wrong(ip, "Attributes are for the selected mailbox");
        if (fetch_parse_items(ip, &request) < 0)
                return -1;
        n->fetch = arena_span(&n->arena, (struct span){ start, (size_t)(ip->p - start) });
        return 0;
}

static int parse_event(struct imap_parser *ip, struct notify *n, struct notify_group *g, bool *unknown)
{
        struct imap_parser before;
        struct span word;
        unsigned event = 0;

        if (imap_atom(ip, &word) < 0)
                return -1;
        for (size_t i = 0; i < ARRAY_LEN(events); i++)
                if (imap_word_is(word, events[i].name))
                        event = events[i].event;
        *unknown |= !event;
        if ((event & ~(unsigned)NOTIFY_MESSAGES) && g->which <= NOTIFY_SELECTED_DELAYED)
                return wrong(ip, "Only message events for the selected mailbox");       /* RFC 5465 6.1 */
        g->events |= event;
        before = *ip;
        if (event == NOTIFY_NEW && imap_skip_c(ip, ' ')) {
                if (imap_peek_c(ip, '('))
                        return parse_attributes(ip, n, g);
                *ip = before;
        }
        return 0;
}

/* "(" event *(SP event) ")" / "NONE". RFC 5465's own examples have events without parentheses: taken too. */
static int parse_events(struct imap_parser *ip, struct notify *n, struct notify_group *g, bool *unknown)
{
        struct imap_parser before = *ip;
        struct span word;
        bool list = imap_peek_c(ip, '(');

        if (!list && imap_atom(ip, &word) == 0 && imap_word_is(word, "NONE"))
                return 0;
        *ip = before;
        if (list && imap_open_paren(ip) < 0)
                return -1;
        do {
                if (parse_event(ip, n, g, unknown) < 0)
                        return -1;
        } while (imap_skip_c(ip, ' '));
        if (list && imap_close_paren(ip) < 0)
                return -1;
        if (!(g->events & NOTIFY_NEW) != !(g->events & NOTIFY_EXPUNGE) ||
            (g->events & (NOTIFY_FLAGS | NOTIFY_ANNOTATIONS) && !(g->events & NOTIFY_NEW)))         /* RFC 5465 5 */
                return wrong(ip, "MessageNew and MessageExpunge go together, FlagChange and AnnotationChange with both");
        return 0;
}

static int parse_group(struct imap_parser *ip, const struct namer *who, struct notify *n, bool *unknown)
{
        struct notify_group *g = &n->groups[n->groups_n];

        if (n->groups_n == NOTIFY_GROUPS_MAX)
                return err_set(&ip->err, ERR_LIMIT, "More than %d groups", NOTIFY_GROUPS_MAX);
        n->groups_n++;
        if (imap_open_paren(ip) < 0 || parse_filter(ip, who, n, g) < 0 || imap_sp(ip) < 0 || parse_events(ip, n, g, unknown) < 0 ||
            imap_close_paren(ip) < 0)
                return -1;
        if (g->which <= NOTIFY_SELECTED_DELAYED)
                n->selected_events = g->events;
        return 0;
}

int notify_parse(struct imap_parser *ip, const struct namer *who, struct notify *n, bool *status_r)
{
        bool unknown = false;
        struct span word;

        *status_r = false;
        if (imap_sp(ip) < 0 || imap_atom(ip, &word) < 0)
                return -1;
        if (imap_word_is(word, "NONE"))
                return imap_end(ip);
        if (!imap_word_is(word, "SET"))
                return wrong(ip, "SET or NONE expected");
        if (imap_sp(ip) < 0)
                return -1;
        if (!imap_peek_c(ip, '(')) {
                if (imap_atom(ip, &word) < 0)
                        return -1;
                if (!imap_word_is(word, "STATUS"))
                        return wrong(ip, "STATUS or a group of events expected");
                *status_r = true;
                if (imap_sp(ip) < 0)
                        return -1;
        }
        do {
                if (parse_group(ip, who, n, &unknown) < 0)
                        return -1;
        } while (imap_skip_c(ip, ' '));
        if (imap_end(ip) < 0)
                return -1;
        return unknown ? err_set(&ip->err, ERR_UNSUPPORTED, "Unknown event") : 0;
}
