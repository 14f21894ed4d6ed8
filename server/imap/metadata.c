/* metadata - see metadata.h */
#include "server/imap/metadata.h"

#include <stdio.h>

#include "server/imap/imap_private.h"
#include "store/annot.h"

#define LOOKED_AT 64                            /* mailboxes at a time */

static int add_entry(struct imap_parser *ip, struct arena *arena, struct metadata_request *r)
{
        struct span entry;

        if (r->n == METADATA_ENTRIES_MAX)
                return err_set(&ip->err, ERR_LIMIT, "Too many entries");
        if (imap_peek_c(ip, '"') || imap_peek_c(ip, '{')) {
                if (imap_string(ip, &entry) < 0)
                        return -1;
        } else if (imap_list_mailbox(ip, &entry) < 0) {         /* with * and %, as Cyrus's clients send them */
                return -1;
        }
        return metadata_name(entry, true, arena, &r->asked[r->n++], &ip->err);
}

int imap_metadata_entries(struct imap_parser *ip, struct arena *arena, struct metadata_request *r)
{
        r->asked = ARENA_ARRAY(arena, const char *, METADATA_ENTRIES_MAX);
        if (!imap_peek_c(ip, '('))
                return add_entry(ip, arena, r);
        if (imap_open_paren(ip) < 0)
                return -1;
        do
                if (add_entry(ip, arena, r) < 0)
                        return -1;
        while (imap_skip_c(ip, ' '));
        return imap_close_paren(ip);
}

static void put_value(struct imap *imap, struct span value)
{
        if (value.p && memchr(value.p, '\0', value.len)) {
                imap_put(imap, "~{%zu}\r\n", value.len);
                imap_put_span(imap, value);
        } else {
                imap_put_nstring(imap, value);
        }
}

static void put_entry(struct imap *imap, const char *internal, bool *begun, const char *name, struct span value)
{
        if (!*begun) {
                imap_put(imap, "* METADATA ");
                if (*internal)
                        imap_put_mailbox(imap, internal);
                else
                        imap_put(imap, "\"\"");
        }
        imap_put(imap, *begun ? " " : " (");
        *begun = true;
        imap_put_astring(imap, span_of(name));
        imap_put(imap, " ");
        put_value(imap, value);
}

static bool is_asked(const struct metadata_request *r, const char *name)
{
        for (uint32_t i = 0; i < r->n; i++)
                if (metadata_matches(r->asked[i], name, r->depth))
                        return true;
        return false;
}

static bool is_there(const struct metadata *list, uint32_t n, const char *name)
{
        for (uint32_t i = 0; i < n; i++)
                if (strcmp(list[i].name, name) == 0)
                        return true;
        return false;
}

void imap_metadata_put(struct imap *imap, const char *internal, const struct metadata_request *r, const struct metadata *list, uint32_t n,
                       uint64_t *longest_r)
{
        bool begun = false;

        *longest_r = 0;
        for (uint32_t i = 0; i < n; i++) {
                if (!is_asked(r, list[i].name))
                        continue;
                if (list[i].value.len <= r->maxsize)
                        put_entry(imap, internal, &begun, list[i].name, list[i].value);
                else if (list[i].value.len > *longest_r)
                        *longest_r = list[i].value.len;
        }
        for (uint32_t i = 0; i < r->n && r->depth == METADATA_DEPTH_0; i++)
                if (!metadata_is_wild(r->asked[i]) && !is_there(list, n, r->asked[i]))
                        put_entry(imap, internal, &begun, r->asked[i], (struct span){ NULL, 0 });
        if (begun)
                imap_put(imap, ")\r\n");
}

/* ---- setting ---- */

int imap_metadata_value(struct imap_parser *ip, struct span *value_r)
{
        bool literal8 = imap_skip_c(ip, '~');

        if (literal8 || imap_peek_c(ip, '"') || imap_peek_c(ip, '{')) {
                if (imap_string(ip, value_r) < 0)
                        return -1;
                if (!value_r->p)
                        *value_r = SPAN("");                    /* empty, not absent */
                return 0;
        }
        if (imap_atom(ip, value_r) < 0)
                return -1;
        if (imap_word_is(*value_r, "NIL"))
                *value_r = (struct span){ NULL, 0 };
        return 0;
}

static int open_target(struct metadata_setting *st, struct metadata_target *t)
{
        struct imap *imap = st->imap;
        struct mailbox_ident ident;

        *t = (struct metadata_target){ .store = imap->store, .conf = imap->conf, .userid = imap->userid, .entry = st->entry };
        if (!t->entry)
                return 0;
        return mbentry_ident(imap->store, t->entry, &ident, &st->err) < 0 ? -1 : mailbox_open(imap->store, &ident, &t->mbox, &st->err);
}

static void close_target(struct metadata_target *t)
{
        if (t->mbox)
                mailbox_unref(&t->mbox);
}

static void remember(struct metadata_setting *st, const struct metadata_target *t)
{
        struct arena arena = ARENA_INIT;
        struct metadata *list;
        uint32_t n;

        st->was = ARENA_ARRAY(st->was_arena, struct metadata, st->n ? st->n : 1);
        if (metadata_list(t, &arena, &list, &n, &st->err) == 0) {
                for (uint32_t i = 0; i < st->n; i++) {
                        st->was[i] = (struct metadata){ st->set[i].name, { NULL, 0 } };
                        for (uint32_t k = 0; k < n; k++)
                                if (strcmp(list[k].name, st->set[i].name) == 0)
                                        st->was[i].value = arena_span(st->was_arena, list[k].value);
                }
        }
        arena_deinit(&arena);
}

void imap_metadata_check_job(void *arg)
{
        struct metadata_setting *st = arg;
        struct imap *imap = st->imap;
        struct metadata_target t = { .store = imap->store, .conf = imap->conf, .userid = imap->userid, .entry = st->entry };
        bool is_admin = imap->is_admin && (st->entry || !mailname_userid_has_domain(imap->userid));     /* the server is more than his domain */

        st->at = METADATA_CHECKING;
        if (metadata_check(&t, st->set, st->n, st->rights, is_admin, &st->err) < 0 || !st->was_arena)
                return;
        st->at = METADATA_SETTING;
        if (open_target(st, &t) == 0)
                remember(st, &t);
        close_target(&t);
}

void imap_metadata_write_job(void *arg)
{
        struct metadata_setting *st = arg;
        struct metadata_target t;

        st->at = METADATA_SETTING;
        if (open_target(st, &t) == 0)
                metadata_set(&t, st->set, st->n, &st->err);
        close_target(&t);
}

void imap_metadata_set_job(void *arg)
{
        struct metadata_setting *st = arg;

        imap_metadata_check_job(st);
        if (st->err.code == ERR_NONE)
                imap_metadata_write_job(st);
}

/* Response codes of RFC 5464 4.3. */
enum cmd_result imap_metadata_set_failed(struct imap *imap, const struct metadata_setting *st)
{
        const struct err *err = &st->err;
        char code[48];

        if (st->at == METADATA_SETTING)
                return err->code == ERR_LIMIT ? imap_no(imap, "METADATA TOOMANY", "Too many annotations, or too large together") : imap_fail(imap, err);
        switch (err->code) {
        case ERR_LIMIT:
                snprintf(code, sizeof code, "METADATA MAXSIZE %d", ANNOT_VALUE_MAX);
                return imap_no(imap, code, "The value is too large");
        case ERR_PERM:
                return imap_no(imap, "NOPERM", "%s", err->text);
        case ERR_EXISTS:
                return imap_no(imap, "USEATTR", "%s", err->text);               /* RFC 6154 3, 4 */
        case ERR_SYNTAX:
        case ERR_BADNAME:
                return imap_no(imap, "CANNOT", "%s", err->text);
        default:
                return imap_fail(imap, err);
        }
}


/* ---- ANNOTATEMORE ---- */

bool imap_annotated_parse(struct imap *imap, struct annotated *a)
{
        struct imap_parser *ip = &imap->cmd.args;
        unsigned wildcards = 0;
        bool quoted;

        if (!conf_switch(imap->conf, imap_service(imap), "annotation_enable_legacy_commands")) {
                imap_bad(imap, "Unknown command");
                return false;
        }
        quoted = ip->end - ip->p >= 2 && (ip->p[1] == '"' || ip->p[1] == '{');
        if (imap_sp(ip) < 0 || (quoted ? imap_string(ip, &a->name) : imap_list_mailbox(ip, &a->name)) < 0) {
                imap_bad(imap, "%s", ip->err.text);
                return false;
        }
        for (size_t i = 0; i < a->name.len; i++)
                wildcards += a->name.p[i] == '*' || a->name.p[i] == '%';
        if (wildcards > MAILNAME_WILDCARDS_MAX) {
                imap_bad(imap, "Too many wildcards");
                return false;
        }
        a->server = a->name.len == 0;
        a->wild = wildcards > 0;
        str_init(&a->after);
        return true;
}

static bool annotated_matches(struct imap *imap, const struct annotated *a, const struct mbentry *entry)
{
        struct namer who = imap_namer(imap);
        struct str external = STR_INIT;
        bool matches;

        if (entry->type != MBTYPE_NORMAL || imap_name_hidden(imap, entry->name))
                return false;
        mailname_external(&who, entry->name, &external);
        matches = mailname_match(external.data, a->name, namespace_separator(imap->ns));
        str_deinit(&external);
        return matches;
}

static enum cmd_result next_match(struct imap *imap, struct annotated *a, const struct mbentry **entry_r, uint32_t *rights_r)
{
        const struct mbentry *entries[LOOKED_AT];
        unsigned n = mboxlist_next(store_mboxlist(imap->store), "", a->after.data ? a->after.data : "", entries, LOOKED_AT);

        *entry_r = NULL;
        for (unsigned i = 0; i < n; i++) {
                if (!*entry_r) {
                        str_clear(&a->after);
                        str_append_str(&a->after, entries[i]->name);
                        *rights_r = imap_rights(imap, entries[i]);
                        if ((*rights_r & ACL_LOOKUP) && imap_allows(imap, *rights_r) && annotated_matches(imap, a, entries[i])) {
                                *entry_r = entries[i];
                                continue;
                        }
                }
                mbentry_unref(&entries[i]);
        }
        return *entry_r ? CMD_DONE : n ? CMD_AGAIN : CMD_CLOSE;
}

enum cmd_result imap_annotated_next(struct imap *imap, struct annotated *a, const struct mbentry **entry_r, uint32_t *rights_r)
{
        struct namer who = imap_namer(imap);
        struct err err = ERR_INIT;
        const char *internal;
        enum cmd_result result;

        *entry_r = NULL;
        if (a->wild) {
                do
                        result = next_match(imap, a, entry_r, rights_r);
                while (result == CMD_AGAIN && !session_slice_over(imap->s));
                return result;
        }
        if (a->begun)
                return CMD_CLOSE;
        a->begun = true;
        if (a->server)
                return CMD_DONE;
        if (mailname_internal(&who, a->name, &imap->s->arena, &internal, &err) < 0) {
                imap_fail(imap, &err);
                return CMD_CLOSE;
        }
        imap_note_named(imap, internal);
        *entry_r = imap_find_mailbox(imap, internal, rights_r);
        return *entry_r ? CMD_DONE : CMD_CLOSE;
}
