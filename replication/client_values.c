/* client_values - mailboxes (csync 6) and messages' records (csync 7) as they stand on the wire, read and written by the client. */
#include "replication/client_private.h"

#include <inttypes.h>

/* ---- reading ---------------------------------------------------------------------------------------------------------------- */

static int missing(const struct dlist *kv, const char *key, struct err *err)
{
        const char *name;

        return err_set(err, ERR_SYNTAX, "%s without a proper %s", dlist_text(kv, "MBOXNAME", &name) ? name : "a mailbox", key);
}

/* A text into the arena. */
static bool take_text(const struct dlist *kv, const char *key, struct arena *arena, const char **text_r)
{
        const char *text;

        if (!dlist_text(kv, key, &text))
                return false;
        *text_r = arena_strdup(arena, text);
        return true;
}

int client_annots_parse(const struct dlist *list, struct arena *arena, struct annot **list_r, uint32_t *n_r, struct err *err)
{
        struct annot *annots = list && list->n ? ARENA_ARRAY(arena, struct annot, list->n) : NULL;
        uint32_t n = 0;

        for (const struct dlist *d = list ? list->first : NULL; d; d = d->next) {
                struct annot *a = &annots[n];

                if (!dlist_text(d, "ENTRY", &a->entry) || !dlist_text(d, "USERID", &a->user) || !dlist_str(d, "VALUE", &a->value))
                        return err_set(err, ERR_SYNTAX, "an annotation without ENTRY, USERID or VALUE");
                dlist_u64(d, "MODSEQ", REPLICA_MODSEQ_MAX, &a->modseq);
                n++;
        }
        *list_r = annots;
        *n_r = n;
        return 0;
}

static void annots_copy(struct annot **list, uint32_t n, const struct annot *from, struct arena *arena)
{
        *list = n ? ARENA_ARRAY(arena, struct annot, n) : NULL;
        for (uint32_t i = 0; i < n; i++)
                (*list)[i] = (struct annot){ .entry = arena_strdup(arena, from[i].entry), .user = arena_strdup(arena, from[i].user),
                                             .value = arena_span(arena, from[i].value), .modseq = from[i].modseq };
}

static int sort_annots(const void *a, const void *b)
{
        return annot_compare(a, b);
}

static int take_annots(const struct dlist *kv, struct arena *arena, struct replica_values *v, struct err *err)
{
        const struct dlist *list;
        struct annot *annots, *copies;
        uint32_t n;

        if (!dlist_list(kv, "ANNOTATIONS", &list))
                return 0;
        if (client_annots_parse(list, arena, &annots, &n, err) < 0)
                return -1;
        annots_copy(&copies, n, annots, arena);
        if (n)
                qsort(copies, n, sizeof *copies, sort_annots);
        v->annots = copies;
        v->annots_n = n;
        return 0;
}

static enum mbtype parse_type(const char *letters)
{
        return strchr(letters, 'd') ? MBTYPE_DELETED : strchr(letters, 'i') ? MBTYPE_INTERMEDIATE : MBTYPE_NORMAL;
}

static void take_optional(const struct dlist *kv, struct replica_values *v)
{
        const char *text;

        if (dlist_text(kv, "MBOXTYPE", &text))
                v->type = parse_type(text);
        if (dlist_u32(kv, "SYNC_CRC", &v->crcs.basic))
                v->has |= REPLICA_HAS_CRC;
        if (dlist_u32(kv, "SYNC_CRC_ANNOT", &v->crcs.annot))
                v->has |= REPLICA_HAS_CRC_ANNOT;
        if (dlist_date(kv, "POP3_SHOW_AFTER", &v->pop3_show_after))
                v->has |= REPLICA_HAS_POP3_SHOW_AFTER;
        if (dlist_u64(kv, "CREATEDMODSEQ", REPLICA_MODSEQ_MAX, &v->createdmodseq))
                v->has |= REPLICA_HAS_CREATEDMODSEQ;
        if (dlist_u64(kv, "FOLDERMODSEQ", REPLICA_MODSEQ_MAX, &v->foldermodseq))
                v->has |= REPLICA_HAS_FOLDERMODSEQ;
        if (dlist_u64(kv, "RACLMODSEQ", REPLICA_MODSEQ_MAX, &v->raclmodseq))
                v->has |= REPLICA_HAS_RACLMODSEQ;
        if (dlist_u64(kv, "XCONVMODSEQ", REPLICA_MODSEQ_MAX, &v->xconvmodseq))
                v->has |= REPLICA_HAS_XCONVMODSEQ;
        dlist_date(kv, "LAST_APPENDDATE", &v->last_appenddate);
}

int client_values_parse(const struct dlist *kv, bool full, struct arena *arena, struct replica_values *v, struct err *err)
{
        struct span options;

        *v = (struct replica_values){ .acl = "", .uniqueid = "", .name = "" };
        take_optional(kv, v);
        if (!dlist_u64(kv, "HIGHESTMODSEQ", REPLICA_MODSEQ_MAX, &v->highestmodseq))
                return missing(kv, "HIGHESTMODSEQ", err);
        if (!dlist_u32(kv, "UIDVALIDITY", &v->uidvalidity))
                return missing(kv, "UIDVALIDITY", err);
        if (!dlist_u32(kv, "LAST_UID", &v->last_uid) || v->last_uid > REPLICA_UID_MAX)
                return missing(kv, "LAST_UID", err);
        if (!take_text(kv, "UNIQUEID", arena, &v->uniqueid) && !full)
                return missing(kv, "UNIQUEID", err);
        if (!take_text(kv, "MBOXNAME", arena, &v->name) && !full)
                return missing(kv, "MBOXNAME", err);
        if (!take_text(kv, "PARTITION", arena, &v->partition) && !full && v->type == MBTYPE_NORMAL)
                return missing(kv, "PARTITION", err);
        if (!take_text(kv, "ACL", arena, &v->acl) && !full)
                return missing(kv, "ACL", err);
        if (dlist_str(kv, "OPTIONS", &options))
                v->options = replica_options_parse(options);
        else if (!full)
                return missing(kv, "OPTIONS", err);
        if (!dlist_u32(kv, "RECENTUID", &v->recentuid) && !full)
                return missing(kv, "RECENTUID", err);
        if (!dlist_date(kv, "RECENTTIME", &v->recent_time) && !full)
                return missing(kv, "RECENTTIME", err);
        if (!dlist_date(kv, "POP3_LAST_LOGIN", &v->pop3_last_login) && !full)
                return missing(kv, "POP3_LAST_LOGIN", err);
        take_text(kv, "QUOTAROOT", arena, &v->quotaroot);
        return take_annots(kv, arena, v, err);
}

/* ---- records ---- */

static const struct { const char *name; uint32_t flag; } flag_names[] = {       /* in the order they are printed */
        { "\\Deleted", MSG_DELETED }, { "\\Answered", MSG_ANSWERED }, { "\\Flagged", MSG_FLAGGED }, { "\\Draft", MSG_DRAFT },
        { "\\Expunged", MSG_EXPUNGED }, { "\\Seen", MSG_SEEN },
};

static int take_flags(const struct dlist *list, struct arena *arena, struct replica_record *rec, struct err *err)
{
        const char **keywords = list->n ? ARENA_ARRAY(arena, const char *, list->n) : NULL;

        for (const struct dlist *d = list->first; d; d = d->next) {
                const char *flag;

                if (!dlist_as_text(d, &flag))
                        return err_set(err, ERR_SYNTAX, "a flag that is none");
                if (*flag != '\\') {
                        if (!replica_keyword_ok(d->value))
                                return err_set(err, ERR_SYNTAX, "a keyword that is no atom");
                        keywords[rec->keywords_n++] = flag;
                        continue;
                }
                for (size_t i = 0; i < ARRAY_LEN(flag_names); i++)
                        if (strcasecmp(flag, flag_names[i].name) == 0)
                                rec->flags |= flag_names[i].flag;
        }
        rec->keywords = keywords;
        return 0;
}

int client_record_parse(const struct dlist *kv, struct arena *arena, struct replica_record *rec, struct err *err)
{
        const struct dlist *flags, *list = NULL;
        struct annot *annots;
        uint32_t n;

        *rec = (struct replica_record){ .uid = 0 };
        if (!dlist_u32(kv, "UID", &rec->uid) || rec->uid == 0 || !dlist_u64(kv, "MODSEQ", REPLICA_MODSEQ_MAX, &rec->modseq) ||
            !dlist_date(kv, "LAST_UPDATED", &rec->last_updated) || !dlist_list(kv, "FLAGS", &flags) ||
            !dlist_date(kv, "INTERNALDATE", &rec->internaldate) || !dlist_u64(kv, "SIZE", UINT64_MAX, &rec->size) ||
            !dlist_guid(kv, "GUID", rec->guid))
                return err_set(err, ERR_SYNTAX, "a record without a proper UID, MODSEQ, LAST_UPDATED, FLAGS, INTERNALDATE, SIZE or GUID");
        if (take_flags(flags, arena, rec, err) < 0)
                return -1;
        dlist_list(kv, "ANNOTATIONS", &list);
        return client_annots_parse(list, arena, &annots, &n, err) < 0 ? -1 : replica_take_annots(rec, annots, n, arena, err);
}

void client_record_copy(struct replica_record *to, const struct replica_record *from, struct arena *arena)
{
        const char **keywords = from->keywords_n ? ARENA_ARRAY(arena, const char *, from->keywords_n) : NULL;
        struct annot *annots;

        *to = *from;
        for (uint32_t i = 0; i < from->keywords_n; i++)
                keywords[i] = arena_strdup(arena, from->keywords[i]);
        to->keywords = keywords;
        annots_copy(&annots, from->annots_n, from->annots, arena);
        to->annots = annots;
}

/* ---- writing ---------------------------------------------------------------------------------------------------------------- */

void client_annots_write(struct client *c, const struct annot *list, uint32_t n)
{
        struct dlist_writer *w = &c->w;

        if (n == 0)
                return;
        dlist_write_list(w, "ANNOTATIONS");
        for (uint32_t i = 0; i < n; i++) {
                dlist_write_kvlist(w, NULL);
                dlist_write_text(w, "ENTRY", list[i].entry);
                dlist_write_text(w, "USERID", list[i].user);
                dlist_write_u64(w, "MODSEQ", list[i].modseq);
                dlist_write_str(w, "VALUE", list[i].value);
                dlist_write_end(w);
        }
        dlist_write_end(w);
}

/* What the replica needs of a name without a mailbox. */
static void write_intermediate(struct dlist_writer *w, const struct replica_values *v)
{
        dlist_write_text(w, "UNIQUEID", v->uniqueid);
        dlist_write_text(w, "MBOXNAME", v->name);
        dlist_write_text(w, "MBOXTYPE", v->type == MBTYPE_DELETED ? "ed" : "ei");
        dlist_write_u64(w, "HIGHESTMODSEQ", v->highestmodseq);
        dlist_write_u64(w, "CREATEDMODSEQ", v->createdmodseq);
        dlist_write_u64(w, "FOLDERMODSEQ", v->foldermodseq);
}

void client_values_write(struct client *c, const struct replica_values *v, const char *partition)
{
        struct dlist_writer *w = &c->w;
        struct str options = STR_INIT;

        if (v->type != MBTYPE_NORMAL) {
                write_intermediate(w, v);
                return;
        }
        replica_options_text(v->options, &options);
        dlist_write_text(w, "UNIQUEID", v->uniqueid);
        dlist_write_text(w, "MBOXNAME", v->name);
        dlist_write_u64(w, "SYNC_CRC", v->crcs.basic);
        dlist_write_u64(w, "SYNC_CRC_ANNOT", v->crcs.annot);
        dlist_write_u64(w, "LAST_UID", v->last_uid);
        dlist_write_u64(w, "HIGHESTMODSEQ", v->highestmodseq);
        dlist_write_u64(w, "RECENTUID", v->recentuid);
        dlist_write_date(w, "RECENTTIME", v->recent_time);
        dlist_write_date(w, "LAST_APPENDDATE", v->last_appenddate);
        dlist_write_date(w, "POP3_LAST_LOGIN", v->pop3_last_login);
        dlist_write_date(w, "POP3_SHOW_AFTER", v->pop3_show_after);
        if (v->xconvmodseq)
                dlist_write_u64(w, "XCONVMODSEQ", v->xconvmodseq);
        if (v->raclmodseq)
                dlist_write_u64(w, "RACLMODSEQ", v->raclmodseq);
        dlist_write_u64(w, "UIDVALIDITY", v->uidvalidity);
        dlist_write_text(w, "PARTITION", partition);
        dlist_write_text(w, "ACL", v->acl);
        dlist_write_text(w, "OPTIONS", options.data);
        if (v->quotaroot)
                dlist_write_text(w, "QUOTAROOT", v->quotaroot);
        if (v->createdmodseq)
                dlist_write_u64(w, "CREATEDMODSEQ", v->createdmodseq);
        if (v->foldermodseq)
                dlist_write_u64(w, "FOLDERMODSEQ", v->foldermodseq);
        client_annots_write(c, v->annots, v->annots_n);
        str_deinit(&options);
}

void client_record_write(struct client *c, const struct replica_record *rec, struct arena *arena)
{
        struct dlist_writer *w = &c->w;
        struct annot *annots;
        uint32_t n = replica_wire_annots(rec, arena, &annots);

        dlist_write_kvlist(w, NULL);
        dlist_write_u64(w, "UID", rec->uid);
        dlist_write_u64(w, "MODSEQ", rec->modseq);
        dlist_write_date(w, "LAST_UPDATED", rec->last_updated);
        dlist_write_list(w, "FLAGS");
        for (size_t i = 0; i < ARRAY_LEN(flag_names); i++)
                if (rec->flags & flag_names[i].flag)
                        dlist_write_flag(w, flag_names[i].name);
        for (uint32_t i = 0; i < rec->keywords_n; i++)
                dlist_write_flag(w, rec->keywords[i]);
        dlist_write_end(w);
        dlist_write_date(w, "INTERNALDATE", rec->internaldate);
        dlist_write_u64(w, "SIZE", rec->size);
        dlist_write_guid(w, "GUID", rec->guid);
        client_annots_write(c, annots, n);
        dlist_write_end(w);
}

/* ---- comparing -------------------------------------------------------------------------------------------------------------- */

bool client_annots_equal(const struct annot *a, uint32_t a_n, const struct annot *b, uint32_t b_n)
{
        if (a_n != b_n)
                return false;
        for (uint32_t i = 0; i < a_n; i++)
                if (strcmp(a[i].entry, b[i].entry) != 0 || strcmp(a[i].user, b[i].user) != 0 || !span_eq(a[i].value, b[i].value))
                        return false;
        return true;
}

static bool differs(bool yes, const char *word, struct str *what, bool *equal)
{
        if (yes) {
                *equal = false;
                if (what)
                        str_printf(what, "%s%s", what->len ? " " : "", word);
        }
        return yes;
}

/* A name without a mailbox has little that could differ. */
static void compare_intermediates(const struct replica_values *a, const struct replica_values *b, struct str *what, bool *equal)
{
        if (b->has & REPLICA_HAS_CREATEDMODSEQ && b->createdmodseq)
                differs(a->createdmodseq != b->createdmodseq, "createdmodseq", what, equal);
        if (b->has & REPLICA_HAS_FOLDERMODSEQ && b->foldermodseq)
                differs(a->foldermodseq != b->foldermodseq, "foldermodseq", what, equal);
}

bool client_values_equal(const struct replica_values *ours, const struct replica_values *theirs, struct str *what)
{
        bool equal = true;

        if (differs(ours->type != theirs->type, "type", what, &equal))
                return false;
        if (ours->type != MBTYPE_NORMAL) {
                compare_intermediates(ours, theirs, what, &equal);
                return equal;
        }
        differs(ours->last_uid != theirs->last_uid, "last_uid", what, &equal);
        differs(ours->highestmodseq != theirs->highestmodseq, "highestmodseq", what, &equal);
        differs(ours->uidvalidity != theirs->uidvalidity, "uidvalidity", what, &equal);
        differs(ours->recentuid != theirs->recentuid, "recentuid", what, &equal);
        differs(ours->recent_time != theirs->recent_time, "recenttime", what, &equal);
        differs(ours->pop3_last_login != theirs->pop3_last_login, "pop3_last_login", what, &equal);
        differs(ours->pop3_show_after != theirs->pop3_show_after, "pop3_show_after", what, &equal);
        differs(ours->options != theirs->options, "options", what, &equal);
        differs(theirs->foldermodseq && ours->foldermodseq != theirs->foldermodseq, "foldermodseq", what, &equal);
        differs(strcmp(ours->acl, theirs->acl) != 0, "acl", what, &equal);
        differs(ours->raclmodseq != theirs->raclmodseq, "raclmodseq", what, &equal);
        differs(ours->xconvmodseq != theirs->xconvmodseq, "xconvmodseq", what, &equal);
        differs(!client_annots_equal(ours->annots, ours->annots_n, theirs->annots, theirs->annots_n), "annotations", what, &equal);
        differs(!replica_crcs_match(ours->crcs, theirs->crcs), "crc", what, &equal);
        return equal;
}
