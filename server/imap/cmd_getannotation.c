/*
 * GETANNOTATION mailbox entries attributes: METADATA as it was before RFC 5464 (draft-daboo-imap-annotatemore-05), as Cyrus has it. The
 * mailbox may be a pattern; an entry may end in a wildcard. Only with annotation_enable_legacy_commands.
 */
#include "server/imap/imap_private.h"
#include "server/imap/metadata.h"
#include "server/imap/selected.h"
#include "util/array.h"

enum { VALUE_SHARED = 1, SIZE_SHARED = 2, VALUE_PRIV = 4, SIZE_PRIV = 8 };

struct get_state {
        struct imap *imap;
        struct annotated where;
        struct metadata_request request;        /* both "/shared/x" and "/private/x", one behind the other */
        unsigned attributes;
        /* the one at hand */
        const struct mbentry *entry;            /* reference */
        struct imap_open open;
        struct arena arena;
        struct metadata *list;
        uint32_t n;
        struct err err;
        bool listed;                            /* the server's, by a job */
};

static void cleanup(struct imap *imap)
{
        struct get_state *st = imap->cmd.state;

        imap_open_release(&st->open);
        if (st->entry)
                mbentry_unref(&st->entry);
        str_deinit(&st->where.after);
        arena_deinit(&st->arena);
}

/* ---- arguments ---- */

static int parse_pattern(struct imap_parser *ip, struct span *s_r)
{
        return imap_peek_c(ip, '"') || imap_peek_c(ip, '{') ? imap_string(ip, s_r) : imap_list_mailbox(ip, s_r);
}

static int add_entry(struct imap *imap, struct get_state *st)
{
        static const char *const scopes[] = { "/shared", "/private" };
        struct imap_parser *ip = &imap->cmd.args;
        struct span entry;

        if (st->request.n + 2 > METADATA_ENTRIES_MAX)
                return err_set(&ip->err, ERR_LIMIT, "Too many entries");
        if (parse_pattern(ip, &entry) < 0)
                return -1;
        if (entry.len == 0 || *entry.p != '/')
                return err_set(&ip->err, ERR_SYNTAX, "Entry names begin with /");
        for (unsigned i = 0; i < 2; i++) {
                struct span name = span_of(arena_printf(&imap->s->arena, "%s%.*s", scopes[i], (int)entry.len, entry.p));

                if (metadata_name(name, true, &imap->s->arena, &st->request.asked[st->request.n++], &ip->err) < 0)
                        return -1;
        }
        return 0;
}

static int add_attribute(struct imap *imap, struct get_state *st)
{
        static const struct { const char *name; unsigned bit; } attributes[] = {
                { "value.shared", VALUE_SHARED }, { "size.shared", SIZE_SHARED }, { "value.priv", VALUE_PRIV }, { "size.priv", SIZE_PRIV },
        };
        struct span pattern;

        if (parse_pattern(&imap->cmd.args, &pattern) < 0)
                return -1;
        for (unsigned i = 0; i < ARRAY_LEN(attributes); i++)                   /* "value" is both */
                if (mailname_match(attributes[i].name, pattern, '/') ||
                    span_ieq(pattern, (struct span){ attributes[i].name, span_index(span_of(attributes[i].name), '.') }))
                        st->attributes |= attributes[i].bit;
        return 0;
}

/* One, or several in parentheses. */
static int parse_several(struct imap *imap, struct get_state *st, int (*add)(struct imap *, struct get_state *))
{
        struct imap_parser *ip = &imap->cmd.args;

        if (imap_sp(ip) < 0)
                return -1;
        if (!imap_peek_c(ip, '('))
                return add(imap, st);
        if (imap_open_paren(ip) < 0)
                return -1;
        do
                if (add(imap, st) < 0)
                        return -1;
        while (imap_skip_c(ip, ' '));
        return imap_close_paren(ip);
}

static bool begin(struct imap *imap)
{
        struct get_state *st = imap->cmd.state = ARENA_NEW(&imap->s->arena, struct get_state);

        imap->cmd.cleanup = cleanup;
        st->imap = imap;
        arena_init(&st->arena);
        st->request.asked = ARENA_ARRAY(&imap->s->arena, const char *, METADATA_ENTRIES_MAX);
        st->request.maxsize = UINT64_MAX;
        if (!imap_annotated_parse(imap, &st->where))
                return false;
        if (parse_several(imap, st, add_entry) == 0 && parse_several(imap, st, add_attribute) == 0 && imap_end(&imap->cmd.args) == 0)
                return true;
        imap_bad(imap, "%s", imap->cmd.args.err.text);
        return false;
}

/* ---- the answer ---- */

/* "/comment" of "/shared/comment". */
static const char *bare(const char *name)
{
        return strchr(name + 1, '/');
}

static bool is_asked(const struct get_state *st, const char *name)
{
        for (uint32_t i = 0; i < st->request.n; i++)
                if (metadata_matches(st->request.asked[i], name, METADATA_DEPTH_0))
                        return true;
        return false;
}

static struct span value_of(const struct get_state *st, const char *scope, const char *entry)
{
        for (uint32_t i = 0; i < st->n; i++)
                if (strncmp(st->list[i].name, scope, strlen(scope)) == 0 && strcmp(bare(st->list[i].name), entry) == 0)
                        return st->list[i].value;
        return (struct span){ NULL, 0 };
}

/* `named`: asked for by its full name, so that there not being a value is an answer. */
static void put_scope(struct imap *imap, const struct get_state *st, const char *entry, bool named, const char *scope, const char *suffix,
                      unsigned value, unsigned size, const char **blank)
{
        struct span v = value_of(st, scope, entry);

        if (!named && !v.p)
                return;
        if (st->attributes & value) {
                imap_put(imap, "%s\"value%s\" ", *blank, suffix);
                imap_put_nstring(imap, v);
                *blank = " ";
        }
        if (st->attributes & size) {
                imap_put(imap, "%s\"size%s\" \"%zu\"", *blank, suffix, v.len);
                *blank = " ";
        }
}

static bool wants(const struct get_state *st, const char *entry, const char *scope, unsigned attributes)
{
        return (st->attributes & attributes) && value_of(st, scope, entry).p;
}

static void put_entry(struct imap *imap, const struct get_state *st, const char *entry)
{
        const char *blank = "";
        bool named = false;

        for (uint32_t i = 0; i < st->request.n && !named; i += 2)
                named = strcmp(bare(st->request.asked[i]), entry) == 0;
        if (!named && !wants(st, entry, "/shared/", VALUE_SHARED | SIZE_SHARED) && !wants(st, entry, "/private/", VALUE_PRIV | SIZE_PRIV))
                return;
        imap_put(imap, "* ANNOTATION ");
        if (st->entry)
                imap_put_mailbox(imap, st->entry->name);
        else
                imap_put(imap, "\"\"");
        imap_put(imap, " ");
        imap_put_string(imap, span_of(entry));
        imap_put(imap, " (");
        put_scope(imap, st, entry, named, "/shared/", ".shared", VALUE_SHARED, SIZE_SHARED, &blank);
        put_scope(imap, st, entry, named, "/private/", ".priv", VALUE_PRIV, SIZE_PRIV, &blank);
        imap_put(imap, ")\r\n");
}

static bool is_there(const struct get_state *st, const char *entry)
{
        return value_of(st, "/shared/", entry).p || value_of(st, "/private/", entry).p;
}

/* What there is, then what was asked for by its full name and is not there. */
static void put_all(struct imap *imap, struct get_state *st)
{
        if (!st->attributes)
                return;
        for (uint32_t i = 0; i < st->n; i++) {
                const char *name = st->list[i].name;
                bool told = strncmp(name, "/shared/", 8) == 0 && value_of(st, "/private/", bare(name)).p;

                if (is_asked(st, name) && !told)
                        put_entry(imap, st, bare(name));
        }
        for (uint32_t i = 0; i < st->request.n; i += 2)
                if (!metadata_is_wild(st->request.asked[i]) && !is_there(st, bare(st->request.asked[i])))
                        put_entry(imap, st, bare(st->request.asked[i]));
}

static void read_server(void *arg)
{
        struct get_state *st = arg;
        struct metadata_target t = { .store = st->imap->store, .conf = st->imap->conf, .userid = st->imap->userid };

        metadata_list(&t, &st->arena, &st->list, &st->n, &st->err);
}

/* CMD_DONE: it was told. */
static enum cmd_result tell(struct imap *imap, struct get_state *st, struct err *err)
{
        struct metadata_target t = { .store = imap->store, .conf = imap->conf, .userid = imap->userid, .entry = st->entry };
        int opened;

        if (!st->entry) {
                if (!st->listed) {
                        st->listed = true;
                        return imap_offload(imap, OFFLOAD_DISK, read_server, st);
                }
                err_copy(err, &st->err);
        } else {
                opened = imap_open_mailbox(imap, &st->open, st->entry, &t.mbox, err);
                if (opened == 0)
                        return CMD_WAIT;
                if (opened > 0) {
                        metadata_list(&t, &st->arena, &st->list, &st->n, err);
                        mailbox_unref(&t.mbox);
                }
        }
        if (err->code == ERR_NONE)
                put_all(imap, st);
        return CMD_DONE;
}

enum cmd_result cmd_getannotation(struct imap *imap)
{
        struct get_state *st;
        enum cmd_result result;
        struct err err = ERR_INIT;
        uint32_t rights;

        if (!imap->cmd.state && !begin(imap))
                return CMD_DONE;
        st = imap->cmd.state;
        for (;;) {
                if (!st->entry && !st->listed) {
                        result = imap_annotated_next(imap, &st->where, &st->entry, &rights);
                        if (result == CMD_AGAIN)
                                return result;
                        if (result == CMD_CLOSE)
                                return imap->loop->tagged.len ? CMD_DONE : imap_ok(imap, NULL, "Completed");
                }
                result = tell(imap, st, &err);
                if (result != CMD_DONE)
                        return result;
                if (err.code != ERR_NONE && !(st->where.wild && err.code == ERR_NOTFOUND))
                        return imap_fail(imap, &err);
                err_clear(&err);
                if (st->entry)
                        mbentry_unref(&st->entry);
                st->listed = false;
                arena_reset(&st->arena);
                st->n = 0;
                if ((result = imap_yield(imap)) != CMD_DONE)
                        return result;
        }
}
