/*
 * search_parse - see search_parse.h
 *
 * Keys are read without recursion: a stack of what is open (a parenthesis, an OR that wants two keys, a NOT that wants one). OR within OR
 * and parentheses within AND add no node, so that the long chains that clients make of OR stay flat; what remains of the depth is
 * bounded by search_program_finish(), and the number of keys by search_key_add().
 */
#include "server/imap/search_parse.h"

#include "server/imap/annotation.h"
#include "server/imap/fetch.h"

#include "store/mailbox.h"
#include "util/array.h"

struct frame {
        struct search_key *parent;              /* keys are added to it */
        unsigned wanted;                        /* that many more; 0: a list, to the parenthesis or the end */
        bool paren;
        bool fuzzy;                             /* … by FUZZY (RFC 6203), here or around */
};

struct parse {
        struct imap_parser *ip;
        const struct search_sets *sets;
        struct search_program *program;
        struct search_request *request;
        struct span charset;
        unsigned filters;                       /* FILTER within FILTER */
        ARRAY(struct frame) open;
};
#define FILTER_DEPTH_MAX 8                      /* RFC 5466 3.1 wants at least 3. What goes deeper goes in circles */

static struct frame *top(struct parse *p)
{
        return &p->open.v[p->open.n - 1];
}

static int out_of_grammar(struct parse *p, const char *what)
{
        return err_set(&p->ip->err, ERR_SYNTAX, "%s", what);
}

static struct search_key *add(struct parse *p, struct search_key *parent, enum search_op op)
{
        return search_key_add(p->program, parent, op, &p->ip->err);
}

/* ---- keys with arguments ---- */

struct key_row {
        const char *name;
        int (*parse)(struct parse *p, struct search_key *parent, const struct key_row *row);
        enum search_op op;
        uint32_t flags;
        const char *field;
};

static int key_plain(struct parse *p, struct search_key *parent, const struct key_row *row)
{
        struct search_key *k = add(p, parent, row->op);

        if (!k)
                return -1;
        k->flags = row->flags;
        return 0;
}

/* UNSEEN, OLD: not that flag. */
static int key_unflag(struct parse *p, struct search_key *parent, const struct key_row *row)
{
        struct search_key *not = add(p, parent, SEARCH_NOT), *k = not ? add(p, not, SEARCH_FLAGS) : NULL;

        if (!k)
                return -1;
        k->flags = row->flags;
        return 0;
}

/* NEW: RECENT UNSEEN (RFC 3501 6.4.4) */
static int key_new(struct parse *p, struct search_key *parent, const struct key_row *row)
{
        struct search_key *both = add(p, parent, SEARCH_AND), *recent = both ? add(p, both, SEARCH_FLAGS) : NULL;
        struct key_row unseen = *row;

        if (!recent)
                return -1;
        recent->flags = SEARCH_FLAG_RECENT;
        unseen.flags = MSG_SEEN;
        return key_unflag(p, both, &unseen);
}

static int text_argument(struct parse *p, struct span *text_r)
{
        struct span s;

        if (imap_sp(p->ip) < 0 || imap_astring(p->ip, &s) < 0)
                return -1;
        return search_text_convert(p->program, p->charset, s, text_r, &p->ip->err);
}

/* ---- FUZZY strings (RFC 6203): every word somewhere in the text, in any order, and without its ending ---- */

static bool in_word(char c)
{
        return ascii_isalpha(c) || ascii_isdigit(c) || (unsigned char)c > 0x7f;
}

/* What is looked for of a word: longer ones without the octets in which "meeting", "meetings" and "meets" differ. Characters stay whole. */
static struct span stem(struct span w)
{
        size_t n = w.len > 7 ? w.len - 3 : w.len > 5 ? w.len - 2 : w.len > 4 ? w.len - 1 : w.len;

        while (n < w.len && n > 0 && ((unsigned char)w.p[n] & 0xc0) == 0x80)
                n--;
        return (struct span){ w.p, n };
}

static void remember_word(struct search_request *r, struct span w)
{
        if (r->fuzzy_words_n < SEARCH_FUZZY_WORDS_MAX)
                r->fuzzy_words[r->fuzzy_words_n++] = w;
}

static int add_text(struct parse *p, struct search_key *parent, enum search_op op, struct span field, struct span text)
{
        struct search_key *k = add(p, parent, op);

        if (!k)
                return -1;
        k->field = field;
        k->text = text;
        return 0;
}

static int add_fuzzy_text(struct parse *p, struct search_key *parent, enum search_op op, struct span field, struct span text)
{
        struct search_key *all = add(p, parent, SEARCH_AND);
        unsigned words = 0;

        for (size_t i = 0; all && i < text.len && words < SEARCH_FUZZY_WORDS_MAX;) {
                size_t end = i;

                while (end < text.len && in_word(text.p[end]))
                        end++;
                if (end > i) {
                        struct span w = stem((struct span){ text.p + i, end - i });

                        if (add_text(p, all, op, field, w) < 0)
                                return -1;
                        remember_word(p->request, w);
                        words++;
                }
                i = end + 1;
        }
        if (all && !words)                                      /* nothing but punctuation */
                return add_text(p, all, op, field, text);
        return all ? 0 : -1;
}

static int add_string_key(struct parse *p, struct search_key *parent, enum search_op op, struct span field)
{
        struct span text;

        if (text_argument(p, &text) < 0)
                return -1;
        return (top(p)->fuzzy ? add_fuzzy_text : add_text)(p, parent, op, field, text);
}

static int key_text(struct parse *p, struct search_key *parent, const struct key_row *row)
{
        return add_string_key(p, parent, row->op, row->field ? span_of(row->field) : SPAN(""));
}

static int key_header(struct parse *p, struct search_key *parent, const struct key_row *row)
{
        struct span field;

        if (imap_sp(p->ip) < 0 || imap_astring(p->ip, &field) < 0)
                return -1;
        return add_string_key(p, parent, row->op, field);
}

/* ANNOTATION entry-match att-search value (RFC 5257 4.8) */
static int key_annotation(struct parse *p, struct search_key *parent, const struct key_row *row)
{
        struct search_key *k = add(p, parent, row->op);
        enum annotation_scope scope;
        struct span word, value;
        bool wild, size, nil;

        if (!k || imap_sp(p->ip) < 0 || imap_list_mailbox(p->ip, &k->field) < 0 || annotation_pattern(k->field, &wild, &p->ip->err) < 0 ||
            imap_sp(p->ip) < 0 || imap_astring(p->ip, &word) < 0)
                return -1;
        if (!annotation_attribute(word, &size, &scope) || size)
                return out_of_grammar(p, "Only value, value.priv and value.shared can be searched");
        k->flags = scope;
        if (imap_sp(p->ip) < 0)
                return -1;
        imap_skip_c(p->ip, '~');
        if (imap_nstring(p->ip, &value, &nil) < 0)
                return -1;
        k->text = (struct span){ NULL, 0 };
        return nil ? 0 : search_text_convert(p->program, p->charset, value, &k->text, &p->ip->err);
}

static int key_keyword(struct parse *p, struct search_key *parent, const struct key_row *row)
{
        struct search_key *k;

        if (row->flags)                                         /* UNKEYWORD */
                parent = add(p, parent, SEARCH_NOT);
        k = parent ? add(p, parent, SEARCH_KEYWORD) : NULL;
        return !k || imap_sp(p->ip) < 0 || imap_atom(p->ip, &k->text) < 0 ? -1 : 0;
}

/* RFC 8474 7: 1*255 of letters, digits, "_" and "-". */
static int key_objectid(struct parse *p, struct search_key *parent, const struct key_row *row)
{
        struct search_key *k = add(p, parent, row->op);

        if (!k || imap_sp(p->ip) < 0 || imap_atom(p->ip, &k->text) < 0)
                return -1;
        for (size_t i = 0; i < k->text.len; i++)
                if (!ascii_isalpha(k->text.p[i]) && !ascii_isdigit(k->text.p[i]) && k->text.p[i] != '_' && k->text.p[i] != '-')
                        return err_set(&p->ip->err, ERR_SYNTAX, "Impossible object id");
        return k->text.len <= 255 ? 0 : err_set(&p->ip->err, ERR_SYNTAX, "Impossible object id");
}

static int key_date(struct parse *p, struct search_key *parent, const struct key_row *row)
{
        struct search_key *k = add(p, parent, row->op);

        return !k || imap_sp(p->ip) < 0 || imap_date(p->ip, &k->day) < 0 ? -1 : 0;
}

static int key_number(struct parse *p, struct search_key *parent, const struct key_row *row)
{
        struct search_key *k = add(p, parent, row->op);

        return !k || imap_sp(p->ip) < 0 || imap_number64(p->ip, &k->number) < 0 ? -1 : 0;
}

/* RFC 5032 3: OLDER and YOUNGER take an nz-number of seconds. */
static int key_interval(struct parse *p, struct search_key *parent, const struct key_row *row)
{
        struct search_key *k = add(p, parent, row->op);
        uint32_t seconds;

        if (!k || imap_sp(p->ip) < 0 || imap_number(p->ip, &seconds) < 0)
                return -1;
        if (seconds == 0)
                return out_of_grammar(p, "An interval is at least one second");
        k->number = seconds;
        return 0;
}

/* MODSEQ [entry-name entry-type-req] n; the entry does not matter where all items share one modseq (RFC 7162 3.1.5). */
static int key_modseq(struct parse *p, struct search_key *parent, const struct key_row *row)
{
        struct search_key *k = add(p, parent, row->op);
        struct span entry, type;

        if (!k || imap_sp(p->ip) < 0)
                return -1;
        if (imap_peek_c(p->ip, '"')) {
                if (imap_string(p->ip, &entry) < 0 || imap_sp(p->ip) < 0 || imap_atom(p->ip, &type) < 0 || imap_sp(p->ip) < 0)
                        return -1;
                if (!span_istarts(entry, "/flags/") || entry.len == 7)
                        return out_of_grammar(p, "Unknown entry name of MODSEQ");
                if (!imap_word_is(type, "priv") && !imap_word_is(type, "shared") && !imap_word_is(type, "all"))
                        return out_of_grammar(p, "Unknown entry type of MODSEQ");
        }
        return imap_number64(p->ip, &k->number);
}

/* Numbers above the last message name nothing: that is no error in a search (RFC 7377 2), and an empty mailbox has no `*`. */
static int parse_seqnos(struct parse *p, struct span text, struct uidset *set)
{
        uint32_t count = p->sets->count;

        if (count == 0 && span_index(text, '*') < text.len)
                return 0;
        if (uidset_parse(text, count, set, &p->ip->err) < 0)
                return -1;
        if (count < UINT32_MAX)
                uidset_remove_range(set, count + 1, UINT32_MAX);
        return 0;
}

/* A copy in the arena: nobody has to end it. */
static const struct uidset *keep(struct arena *arena, const struct uidset *set)
{
        struct uidset *kept = ARENA_NEW(arena, struct uidset);

        kept->n = kept->cap = set->n;
        kept->ranges = ARENA_ARRAY(arena, struct uidrange, set->n);
        if (set->n)
                memcpy(kept->ranges, set->ranges, set->n * sizeof *set->ranges);
        return kept;
}

static int add_set(struct parse *p, struct search_key *parent, bool uid)
{
        struct uidset set = UIDSET_INIT;
        struct search_key *k;
        struct span text;
        int ret;

        if (imap_sequence(p->ip, &text) < 0)
                return -1;
        if (span_eq_str(text, "$")) {                           /* RFC 5182 2.1: UIDs in both forms */
                k = add(p, parent, SEARCH_UIDSET);
                if (!k)
                        return -1;
                k->set = p->sets->saved;
                return 0;
        }
        k = add(p, parent, uid ? SEARCH_UIDSET : SEARCH_SEQSET);
        if (!k)
                return -1;
        ret = uid ? uidset_parse(text, p->sets->last_uid, &set, &p->ip->err) : parse_seqnos(p, text, &set);
        if (ret == 0)
                k->set = keep(p->ip->arena, &set);
        uidset_deinit(&set);
        return ret;
}

static int key_uid(struct parse *p, struct search_key *parent, const struct key_row *row)
{
        (void)row;
        return imap_sp(p->ip) < 0 ? -1 : add_set(p, parent, true);
}

static const struct key_row rows[] = {
        { "ALL", key_plain, SEARCH_ALL, 0, NULL },
        { "ANNOTATION", key_annotation, SEARCH_ANNOTATION, 0, NULL },
        { "ANSWERED", key_plain, SEARCH_FLAGS, MSG_ANSWERED, NULL },
        { "BCC", key_text, SEARCH_HEADER, 0, "Bcc" },
        { "BEFORE", key_date, SEARCH_BEFORE, 0, NULL },
        { "BODY", key_text, SEARCH_BODY, 0, NULL },
        { "CC", key_text, SEARCH_HEADER, 0, "Cc" },
        { "DELETED", key_plain, SEARCH_FLAGS, MSG_DELETED, NULL },
        { "DRAFT", key_plain, SEARCH_FLAGS, MSG_DRAFT, NULL },
        { "EMAILID", key_objectid, SEARCH_EMAILID, 0, NULL },
        { "FLAGGED", key_plain, SEARCH_FLAGS, MSG_FLAGGED, NULL },
        { "FROM", key_text, SEARCH_HEADER, 0, "From" },
        { "HEADER", key_header, SEARCH_HEADER, 0, NULL },
        { "KEYWORD", key_keyword, SEARCH_KEYWORD, 0, NULL },
        { "LARGER", key_number, SEARCH_LARGER, 0, NULL },
        { "MODSEQ", key_modseq, SEARCH_MODSEQ, 0, NULL },
        { "NEW", key_new, SEARCH_AND, 0, NULL },
        { "OLD", key_unflag, SEARCH_FLAGS, SEARCH_FLAG_RECENT, NULL },
        { "OLDER", key_interval, SEARCH_OLDER, 0, NULL },
        { "ON", key_date, SEARCH_ON, 0, NULL },
        { "RECENT", key_plain, SEARCH_FLAGS, SEARCH_FLAG_RECENT, NULL },
        { "SAVEDATESUPPORTED", key_plain, SEARCH_ALL, 0, NULL },
        { "SAVEDBEFORE", key_date, SEARCH_SAVEDBEFORE, 0, NULL },
        { "SAVEDON", key_date, SEARCH_SAVEDON, 0, NULL },
        { "SAVEDSINCE", key_date, SEARCH_SAVEDSINCE, 0, NULL },
        { "SEEN", key_plain, SEARCH_FLAGS, MSG_SEEN, NULL },
        { "SENTBEFORE", key_date, SEARCH_SENTBEFORE, 0, NULL },
        { "SENTON", key_date, SEARCH_SENTON, 0, NULL },
        { "SENTSINCE", key_date, SEARCH_SENTSINCE, 0, NULL },
        { "SINCE", key_date, SEARCH_SINCE, 0, NULL },
        { "SMALLER", key_number, SEARCH_SMALLER, 0, NULL },
        { "SUBJECT", key_text, SEARCH_HEADER, 0, "Subject" },
        { "TEXT", key_text, SEARCH_TEXT, 0, NULL },
        { "THREADID", key_objectid, SEARCH_THREADID, 0, NULL },
        { "TO", key_text, SEARCH_HEADER, 0, "To" },
        { "UID", key_uid, SEARCH_UIDSET, 0, NULL },
        { "UNANSWERED", key_unflag, SEARCH_FLAGS, MSG_ANSWERED, NULL },
        { "UNDELETED", key_unflag, SEARCH_FLAGS, MSG_DELETED, NULL },
        { "UNDRAFT", key_unflag, SEARCH_FLAGS, MSG_DRAFT, NULL },
        { "UNFLAGGED", key_unflag, SEARCH_FLAGS, MSG_FLAGGED, NULL },
        { "UNKEYWORD", key_keyword, SEARCH_KEYWORD, 1, NULL },
        { "UNSEEN", key_unflag, SEARCH_FLAGS, MSG_SEEN, NULL },
        { "YOUNGER", key_interval, SEARCH_YOUNGER, 0, NULL },
};

/* ---- the tree ---- */

static int open_frame(struct parse *p, struct search_key *parent, unsigned wanted, bool paren)
{
        bool fuzzy = p->open.n > 0 && top(p)->fuzzy;

        if (!parent)
                return -1;
        if (p->open.n == SEARCH_KEYS_MAX)
                return err_set(&p->ip->err, ERR_LIMIT, "Search keys are nested too deep");
        *ARRAY_PUSH(&p->open) = (struct frame){ parent, wanted, paren, fuzzy };
        return 0;
}

/* FUZZY: so is the key that comes next, with all that is in it. Keys other than strings match exactly (RFC 6203 5). */
static int open_fuzzy(struct parse *p)
{
        if (imap_sp(p->ip) < 0 || open_frame(p, add(p, top(p)->parent, SEARCH_AND), 1, false) < 0)
                return -1;
        top(p)->fuzzy = p->request->fuzzy = true;
        return 0;
}

/* OR or NOT: the keys that it wants come next. */
static int open_operator(struct parse *p, bool is_or)
{
        struct search_key *parent = top(p)->parent;

        if (imap_sp(p->ip) < 0)
                return -1;
        if (is_or)
                return open_frame(p, parent->op == SEARCH_OR ? parent : add(p, parent, SEARCH_OR), 2, false);
        return open_frame(p, add(p, parent, SEARCH_NOT), 1, false);
}

static int parse_list(struct parse *p, struct search_key *parent);

/*
 * FILTER name (RFC 5466): the keys that are stored under this name, as if they stood here in parentheses. A copy of them is parsed, which
 * lives as long as the program.
 */
static int parse_filter(struct parse *p)
{
        struct parse inner = { .sets = p->sets, .program = p->program, .request = p->request, .charset = SPAN("UTF-8"),
                               .filters = p->filters + 1 };
        struct search_key *parent = add(p, top(p)->parent, SEARCH_AND);
        struct imap_parser ip;
        struct span name, value;
        int rc;

        if (!parent || imap_sp(p->ip) < 0 || imap_atom(p->ip, &name) < 0)
                return -1;
        if (span_index(name, '/') < name.len)
                return out_of_grammar(p, "Invalid name of a filter");
        if (!span_ieq_str(p->charset, "UTF-8") && !span_ieq_str(p->charset, "US-ASCII"))
                return err_set(&p->ip->err, ERR_UNSUPPORTED, "FILTER is for the charset UTF-8");
        if (p->filters == FILTER_DEPTH_MAX || !p->sets->filter || !p->sets->filter(p->sets->filter_ctx, name, &value)) {
                p->request->undefined_filter = name;
                return err_set(&p->ip->err, ERR_NOTFOUND, "There is no such filter");
        }
        imap_parser_init(&ip, arena_span(p->program->arena, value), p->ip->arena, true);
        inner.ip = &ip;
        rc = parse_list(&inner, parent);
        ARRAY_FREE(&inner.open);
        if (rc == 0)
                return 0;
        if (ip.err.code == ERR_SYNTAX)
                return err_set(&p->ip->err, ERR_SYNTAX, "Within a filter: %s", ip.err.text);
        err_copy(&p->ip->err, &ip.err);
        return -1;
}

static int parse_word(struct parse *p, bool *whole_r)
{
        struct span name;

        if (imap_atom(p->ip, &name) < 0)
                return -1;
        if (imap_word_is(name, "OR") || imap_word_is(name, "NOT")) {
                *whole_r = false;
                return open_operator(p, imap_word_is(name, "OR"));
        }
        if (imap_word_is(name, "FUZZY")) {
                *whole_r = false;
                return open_fuzzy(p);
        }
        if (imap_word_is(name, "FILTER"))
                return parse_filter(p);
        for (size_t i = 0; i < ARRAY_LEN(rows); i++)
                if (imap_word_is(name, rows[i].name))
                        return rows[i].parse(p, top(p)->parent, &rows[i]);
        return err_set(&p->ip->err, ERR_SYNTAX, "Unknown search key %.*s", (int)(name.len < 40 ? name.len : 40), name.p);
}

/* One key, or the beginning of one that consists of others (*whole_r false). */
static int parse_key(struct parse *p, bool *whole_r)
{
        struct imap_parser *ip = p->ip;
        struct search_key *parent = top(p)->parent;

        *whole_r = true;
        if (imap_peek_c(ip, '(')) {
                *whole_r = false;
                if (imap_open_paren(ip) < 0)
                        return -1;
                return open_frame(p, parent->op == SEARCH_AND ? parent : add(p, parent, SEARCH_AND), 0, true);
        }
        if (imap_peek_c(ip, '$') || imap_peek_c(ip, '*') || (!imap_at_end(ip) && ascii_isdigit(*ip->p)))
                return add_set(p, parent, false);
        return parse_word(p, whole_r);
}

/* A key is whole. Close what is whole with it; *more_r: another key is to follow. */
static int close_frames(struct parse *p, bool *more_r)
{
        while (p->open.n) {
                struct frame *f = top(p);

                if (f->wanted > 1 || (f->wanted == 0 && !(f->paren ? imap_peek_c(p->ip, ')') : imap_at_end(p->ip)))) {
                        if (f->wanted)
                                f->wanted--;
                        *more_r = true;
                        return imap_sp(p->ip);
                }
                if (f->paren && imap_close_paren(p->ip) < 0)
                        return -1;
                p->open.n--;
        }
        *more_r = false;
        return 0;
}

/* Keys to the end of the text. */
static int parse_list(struct parse *p, struct search_key *parent)
{
        bool more = true, whole;

        if (open_frame(p, parent, 0, false) < 0)
                return -1;
        while (more) {
                if (parse_key(p, &whole) < 0)
                        return -1;
                if (whole && close_frames(p, &more) < 0)
                        return -1;
        }
        return imap_end(p->ip);
}

/* ---- what stands before the keys ---- */

/* Take a leading word if it is the one. */
static bool skip_word(struct imap_parser *ip, const char *word)
{
        size_t len = strlen(word);

        if ((size_t)(ip->end - ip->p) <= len || ip->p[len] != ' ' || !imap_word_is((struct span){ ip->p, len }, word))
                return false;
        ip->p += len;
        return true;
}

/* RFC 9394 4: "1:100", or "-1:-100", counted from the end. */
int search_parse_partial(struct imap_parser *ip, struct search_partial *partial)
{
        const char *from = ip->p;
        uint32_t a, b;

        partial->from_end = imap_skip_c(ip, '-');
        if (imap_number(ip, &a) < 0 || imap_char(ip, ':') < 0 || (partial->from_end && imap_char(ip, '-') < 0) || imap_number(ip, &b) < 0)
                return -1;
        if (a == 0 || b == 0)
                return err_set(&ip->err, ERR_SYNTAX, "A range begins with 1");
        partial->first = a < b ? a : b;
        partial->last = a < b ? b : a;
        partial->text = (struct span){ from, (size_t)(ip->p - from) };
        return 0;
}

/* UPDATE "(" fetch items ")": RFC 5465 8. */
static int parse_update(struct imap_parser *ip, struct search_request *r)
{
        struct fetch_request request;

        if (ip->end - ip->p < 2 || ip->p[0] != ' ' || ip->p[1] != '(')
                return 0;
        r->update.p = ++ip->p;
        if (fetch_parse_items(ip, &request) < 0)
                return -1;
        r->update.len = (size_t)(ip->p - r->update.p);
        return 0;
}

static int parse_option(struct imap_parser *ip, struct search_request *r)
{
        static const struct { const char *name; unsigned bit; } options[] = {
                { "MIN", SEARCH_RETURN_MIN }, { "MAX", SEARCH_RETURN_MAX }, { "ALL", SEARCH_RETURN_ALL },
                { "COUNT", SEARCH_RETURN_COUNT }, { "SAVE", SEARCH_RETURN_SAVE }, { "PARTIAL", SEARCH_RETURN_PARTIAL },
                { "RELEVANCY", SEARCH_RETURN_RELEVANCY }, { "UPDATE", SEARCH_RETURN_UPDATE }, { "CONTEXT", SEARCH_RETURN_CONTEXT },
        };
        const unsigned one_of = SEARCH_RETURN_ALL | SEARCH_RETURN_PARTIAL;
        struct span w;
        size_t i;

        if (imap_atom(ip, &w) < 0)
                return -1;
        for (i = 0; i < ARRAY_LEN(options) && !imap_word_is(w, options[i].name); i++)
                ;
        if (i == ARRAY_LEN(options))
                return err_set(&ip->err, ERR_SYNTAX, "Unknown result option");
        if ((options[i].bit & one_of) && (r->returns & one_of) && (options[i].bit | (r->returns & one_of)) != SEARCH_RETURN_ALL)
                return err_set(&ip->err, ERR_SYNTAX, "PARTIAL may be given once, and not with ALL");             /* RFC 9394 3.1 */
        r->returns |= options[i].bit;
        if (options[i].bit == SEARCH_RETURN_PARTIAL)
                return imap_sp(ip) < 0 ? -1 : search_parse_partial(ip, &r->partial);
        return options[i].bit == SEARCH_RETURN_UPDATE ? parse_update(ip, r) : 0;
}

int search_parse_return(struct imap_parser *ip, struct search_request *r)
{
        if (!skip_word(ip, "RETURN"))
                return 0;
        r->extended = true;
        if (imap_sp(ip) < 0 || imap_open_paren(ip) < 0)
                return -1;
        if (!imap_peek_c(ip, ')')) {
                do {
                        if (parse_option(ip, r) < 0)
                                return -1;
                } while (imap_skip_c(ip, ' '));
        }
        if (!r->returns)
                r->returns = SEARCH_RETURN_ALL;                 /* RFC 4731 3.1 */
        return imap_close_paren(ip) < 0 || imap_sp(ip) < 0 ? -1 : 0;
}

static int parse_charset_name(struct parse *p)
{
        if (imap_astring(p->ip, &p->charset) < 0 || imap_sp(p->ip) < 0)
                return -1;
        if (p->charset.len == 0 || !charset_known(p->charset))
                return err_set(&p->ip->err, ERR_CHARSET, "Unknown charset");
        return 0;
}

static int parse_charset(struct parse *p)
{
        p->charset = SPAN("UTF-8");                             /* RFC 9051 6.4.4; US-ASCII is in it */
        if (!skip_word(p->ip, "CHARSET"))
                return 0;
        return imap_sp(p->ip) < 0 ? -1 : parse_charset_name(p);
}

/* The last part of every command that searches. */
static int parse_program(struct imap_parser *ip, const struct search_sets *sets, struct search_request *r, int (*charset)(struct parse *p))
{
        struct parse p = { .ip = ip, .sets = sets, .program = search_program_create(ip->arena), .request = r };
        int ret = -1;

        r->program = p.program;
        if (charset(&p) == 0 && parse_list(&p, p.program->root) == 0)
                ret = search_program_finish(r->program, &ip->err);
        if (ret == 0 && (r->returns & SEARCH_RETURN_RELEVANCY) && !r->fuzzy)
                ret = err_set(&ip->err, ERR_SYNTAX, "RELEVANCY needs a FUZZY key");             /* RFC 6203 4 */
        ARRAY_FREE(&p.open);
        return ret;
}

int search_parse_charset_keys(struct imap_parser *ip, const struct search_sets *sets, struct search_request *r)
{
        struct imap_parser ahead = *ip;
        struct span charset;

        r->charset_conflicts = imap_astring(&ahead, &charset) == 0 && !span_ieq_str(charset, "UTF-8");
        return parse_program(ip, sets, r, parse_charset_name);
}

int search_parse(struct imap_parser *ip, const struct search_sets *sets, struct search_request *r)
{
        *r = (struct search_request){ 0 };
        if (search_parse_return(ip, r) < 0)
                return -1;
        r->charset_conflicts = ip->end - ip->p > 8 && imap_word_is((struct span){ ip->p, 8 }, "CHARSET ");
        return parse_program(ip, sets, r, parse_charset);
}

static bool any_filter(const void *ctx, struct span name, struct span *value_r)
{
        (void)ctx;
        (void)name;
        *value_r = SPAN("ALL");
        return true;
}

static int utf8_charset(struct parse *p)
{
        p->charset = SPAN("UTF-8");
        return 0;
}

int search_filter_check(struct span value, struct err *err)
{
        static const struct uidset none = UIDSET_INIT;
        struct search_sets sets = { .count = UINT32_MAX, .last_uid = UINT32_MAX, .saved = &none, .filter = any_filter };
        struct search_request r = { 0 };
        struct arena arena = ARENA_INIT;
        struct imap_parser ip;
        int rc;

        imap_parser_init(&ip, value, &arena, true);
        rc = parse_program(&ip, &sets, &r, utf8_charset);
        if (rc < 0)
                err_copy(err, &ip.err);
        arena_deinit(&arena);
        return rc;
}

/* ---- SORT ---- */

/* ANNOTATION entry att-sort (RFC 5257 4.9): no wildcards, and private or shared has to be said. */
static int parse_sort_annotation(struct imap_parser *ip, struct sort_annotation *a)
{
        enum annotation_scope scope;
        struct span entry, word;
        bool size;

        if (imap_sp(ip) < 0 || imap_astring(ip, &entry) < 0 || annotation_entry(entry, NULL, &ip->err) < 0 || imap_sp(ip) < 0 ||
            imap_astring(ip, &word) < 0)
                return -1;
        if (!annotation_attribute(word, &size, &scope) || size || scope == ANNOTATION_BOTH)
                return err_set(&ip->err, ERR_SYNTAX, "Only value.priv and value.shared can be sorted by");
        *a = (struct sort_annotation){ arena_span(ip->arena, entry), scope == ANNOTATION_PRIVATE };
        return 0;
}

static int parse_criterion(struct imap_parser *ip, struct sort_criteria *c)
{
        static const struct { const char *name; enum sort_criterion by; } known[] = {
                { "ARRIVAL", SORT_ARRIVAL }, { "CC", SORT_CC }, { "DATE", SORT_DATE }, { "DISPLAYFROM", SORT_DISPLAYFROM },
                { "DISPLAYTO", SORT_DISPLAYTO }, { "FROM", SORT_FROM }, { "RELEVANCY", SORT_RELEVANCY }, { "SIZE", SORT_SIZE },
                { "SUBJECT", SORT_SUBJECT }, { "TO", SORT_TO }, { "ANNOTATION", SORT_ANNOTATION },
        };
        struct sort_annotation annotation = { { NULL, 0 }, false };
        bool reverse = skip_word(ip, "REVERSE");
        struct span w;
        size_t i;

        if ((reverse && imap_sp(ip) < 0) || imap_atom(ip, &w) < 0)
                return -1;
        for (i = 0; i < ARRAY_LEN(known) && !imap_word_is(w, known[i].name); i++)
                ;
        if (i == ARRAY_LEN(known))
                return err_set(&ip->err, ERR_SYNTAX, "Unknown sort criterion");
        if (known[i].by == SORT_ANNOTATION && parse_sort_annotation(ip, &annotation) < 0)
                return -1;
        for (unsigned k = 0; k < c->n; k++)
                if (c->v[k].by == known[i].by && span_eq(c->v[k].annotation.entry, annotation.entry) &&
                    c->v[k].annotation.private == annotation.private)
                        return 0;
        if (c->n == SORT_CRITERIA_MAX)
                return err_set(&ip->err, ERR_LIMIT, "More than %d sort criteria", SORT_CRITERIA_MAX);
        c->v[c->n].by = known[i].by;
        c->v[c->n].annotation = annotation;
        c->v[c->n++].reverse = reverse;
        c->uses_annotations |= known[i].by == SORT_ANNOTATION;
        c->uses_facts |= known[i].by != SORT_ARRIVAL && known[i].by != SORT_DATE && known[i].by != SORT_SIZE && known[i].by != SORT_ANNOTATION;
        return 0;
}

int sort_criteria_parse(struct imap_parser *ip, struct sort_criteria *criteria_r)
{
        *criteria_r = (struct sort_criteria){ .n = 0 };
        if (imap_open_paren(ip) < 0)
                return -1;
        do {
                if (parse_criterion(ip, criteria_r) < 0)
                        return -1;
        } while (imap_skip_c(ip, ' '));
        return imap_close_paren(ip);
}
