/* server_record - see server_private.h. The MAILBOX item of csync 6 and the records of csync 7, written and read. */
#include <inttypes.h>
#include <stdlib.h>

#include "replication/server_private.h"
#include "util/must.h"

/* ---- writing ---- */

/* Those of a mailbox have no modseq of their own on the wire: Cyrus keeps none. */
static void write_annots(struct dlist_writer *w, const char *key, const struct annot *list, uint32_t n, bool modseqs)
{
        if (n == 0)
                return;
        dlist_write_list(w, key);
        for (uint32_t i = 0; i < n; i++) {
                dlist_write_kvlist(w, NULL);
                dlist_write_text(w, "ENTRY", list[i].entry);
                dlist_write_text(w, "USERID", list[i].user);
                dlist_write_u64(w, "MODSEQ", modseqs ? list[i].modseq : 0);
                dlist_write_str(w, "VALUE", list[i].value);
                dlist_write_end(w);
        }
        dlist_write_end(w);
}

static void write_if(struct dlist_writer *w, const char *key, uint64_t value)
{
        if (value)
                dlist_write_u64(w, key, value);
}

void sync_write_values(struct dlist_writer *w, const struct replica_values *v)
{
        bool intermediate = v->type == MBTYPE_INTERMEDIATE;
        struct str options = STR_INIT;

        replica_options_text(v->options, &options);
        dlist_write_kvlist(w, "MAILBOX");
        dlist_write_text(w, "UNIQUEID", v->uniqueid);
        dlist_write_text(w, "MBOXNAME", v->name);
        if (intermediate)
                dlist_write_text(w, "MBOXTYPE", "ei");
        dlist_write_u64(w, "SYNC_CRC", v->crcs.basic);
        if (!intermediate)
                dlist_write_u64(w, "SYNC_CRC_ANNOT", v->crcs.annot);
        dlist_write_u64(w, "LAST_UID", v->last_uid);
        dlist_write_u64(w, "HIGHESTMODSEQ", intermediate ? 0 : v->highestmodseq);
        dlist_write_u64(w, "RECENTUID", v->recentuid);
        dlist_write_date(w, "RECENTTIME", v->recent_time);
        dlist_write_date(w, "LAST_APPENDDATE", v->last_appenddate);
        dlist_write_date(w, "POP3_LAST_LOGIN", v->pop3_last_login);
        dlist_write_date(w, "POP3_SHOW_AFTER", v->pop3_show_after);
        write_if(w, "XCONVMODSEQ", v->xconvmodseq);
        write_if(w, "RACLMODSEQ", v->raclmodseq);
        dlist_write_u64(w, "UIDVALIDITY", intermediate ? 0 : v->uidvalidity);
        dlist_write_text(w, "PARTITION", intermediate ? NULL : v->partition);
        dlist_write_text(w, "ACL", intermediate || !v->acl ? "" : v->acl);
        dlist_write_str(w, "OPTIONS", str_span(&options));
        if (v->quotaroot)
                dlist_write_text(w, "QUOTAROOT", v->quotaroot);
        write_if(w, "CREATEDMODSEQ", v->createdmodseq);
        write_if(w, "FOLDERMODSEQ", v->foldermodseq);
        write_annots(w, "ANNOTATIONS", v->annots, v->annots_n, false);
        str_deinit(&options);
}

/* In the order in which Cyrus prints them. */
static const struct { uint32_t flag; const char *name; } system_flags[] = {
        { MSG_DELETED, "\\Deleted" }, { MSG_ANSWERED, "\\Answered" }, { MSG_FLAGGED, "\\Flagged" }, { MSG_DRAFT, "\\Draft" },
        { MSG_EXPUNGED, "\\Expunged" }, { MSG_SEEN, "\\Seen" },
};

void sync_write_record(struct dlist_writer *w, const struct replica_record *rec, struct arena *scratch)
{
        struct annot *annots;
        uint32_t n;

        dlist_write_kvlist(w, NULL);
        dlist_write_u64(w, "UID", rec->uid);
        dlist_write_u64(w, "MODSEQ", rec->modseq);
        dlist_write_date(w, "LAST_UPDATED", rec->last_updated);
        dlist_write_list(w, "FLAGS");
        for (size_t i = 0; i < ARRAY_LEN(system_flags); i++)
                if (rec->flags & system_flags[i].flag)
                        dlist_write_flag(w, system_flags[i].name);
        for (uint32_t i = 0; i < rec->keywords_n; i++)
                dlist_write_flag(w, rec->keywords[i]);
        dlist_write_end(w);
        dlist_write_date(w, "INTERNALDATE", rec->internaldate);
        dlist_write_u64(w, "SIZE", rec->size);
        dlist_write_guid(w, "GUID", rec->guid);
        n = replica_wire_annots(rec, scratch, &annots);
        write_annots(w, "ANNOTATIONS", annots, n, true);
        dlist_write_end(w);
}

/* ---- reading ---- */

static int by_entry(const void *a, const void *b)
{
        return annot_compare(a, b);
}

static bool read_annot(const struct dlist *d, struct annot *a_r)
{
        struct err err = ERR_INIT;

        memset(a_r, 0, sizeof *a_r);
        return dlist_text(d, "ENTRY", &a_r->entry) && dlist_text(d, "USERID", &a_r->user) && dlist_str(d, "VALUE", &a_r->value) &&
               (!dlist_find(d, "MODSEQ") || dlist_u64(d, "MODSEQ", UINT64_MAX, &a_r->modseq)) &&
               annot_check_entry(span_of(a_r->entry), &err) == 0 && a_r->value.len <= ANNOT_VALUE_MAX &&
               (*a_r->user == '\0' || sync_userid_ok(a_r->user));
}

bool sync_read_annots(const struct dlist *kv, const char *key, struct arena *arena, struct annot **list_r, uint32_t *n_r, const char **why_r)
{
        const struct dlist *list;
        uint32_t n = 0;

        *list_r = NULL;
        *n_r = 0;
        if (!dlist_find(kv, key))
                return true;
        *why_r = "ANNOTATIONS";
        if (!dlist_list(kv, key, &list))
                return false;
        *list_r = ARENA_ARRAY(arena, struct annot, list->n + 1);
        for (const struct dlist *d = list->first; d; d = d->next)
                if (!read_annot(d, &(*list_r)[n++]))
                        return false;
        qsort(*list_r, n, sizeof **list_r, by_entry);
        for (uint32_t i = 1; i < n; i++)
                if (annot_compare(&(*list_r)[i - 1], &(*list_r)[i]) == 0)
                        return false;
        *n_r = n;
        return true;
}

/* The letters of csync 6; what is no mail is not kept here. */
static bool read_type(const struct dlist *item, enum mbtype *type_r)
{
        const char *letters = "";

        *type_r = MBTYPE_NORMAL;
        if (dlist_find(item, "MBOXTYPE") && !dlist_text(item, "MBOXTYPE", &letters))
                return false;
        for (const char *c = letters; *c; c++)
                switch (*c) {
                case 'e': break;
                case 'i': *type_r = MBTYPE_INTERMEDIATE; break;
                case 'd': *type_r = MBTYPE_DELETED; break;
                default: return false;
                }
        return true;
}

static bool optional_u64(const struct dlist *item, const char *key, unsigned bit, uint64_t *value_r, unsigned *has)
{
        if (!dlist_find(item, key))
                return true;
        *has |= bit;
        return dlist_u64(item, key, REPLICA_MODSEQ_MAX, value_r);
}

static bool read_optional(const struct dlist *item, struct replica_values *v, const char **why_r)
{
        uint64_t crc = 0, crc_annot = 0, show_after = 0;

        if (!optional_u64(item, *why_r = "SYNC_CRC", REPLICA_HAS_CRC, &crc, &v->has) || crc > UINT32_MAX ||
            !optional_u64(item, *why_r = "SYNC_CRC_ANNOT", REPLICA_HAS_CRC_ANNOT, &crc_annot, &v->has) || crc_annot > UINT32_MAX ||
            !optional_u64(item, *why_r = "POP3_SHOW_AFTER", REPLICA_HAS_POP3_SHOW_AFTER, &show_after, &v->has) ||
            !optional_u64(item, *why_r = "XCONVMODSEQ", REPLICA_HAS_XCONVMODSEQ, &v->xconvmodseq, &v->has) ||
            !optional_u64(item, *why_r = "RACLMODSEQ", REPLICA_HAS_RACLMODSEQ, &v->raclmodseq, &v->has) ||
            !optional_u64(item, *why_r = "CREATEDMODSEQ", REPLICA_HAS_CREATEDMODSEQ, &v->createdmodseq, &v->has) ||
            !optional_u64(item, *why_r = "FOLDERMODSEQ", REPLICA_HAS_FOLDERMODSEQ, &v->foldermodseq, &v->has))
                return false;
        v->crcs = (struct replica_crcs){ (uint32_t)crc, (uint32_t)crc_annot };
        v->pop3_show_after = (int64_t)show_after;
        return true;
}

bool sync_read_values(const struct dlist *item, struct arena *arena, struct replica_values *v, const char **why_r)
{
        struct span options;
        struct annot *annots;

        memset(v, 0, sizeof *v);
        if (!dlist_text(item, *why_r = "UNIQUEID", &v->uniqueid) || !replica_uniqueid_ok(span_of(v->uniqueid)) ||
            !dlist_text(item, *why_r = "MBOXNAME", &v->name) || !sync_name_ok(v->name) ||
            (*why_r = "MBOXTYPE", !read_type(item, &v->type)) ||
            !dlist_u64(item, *why_r = "HIGHESTMODSEQ", REPLICA_MODSEQ_MAX, &v->highestmodseq) || !read_optional(item, v, why_r))
                return false;
        if (v->type != MBTYPE_NORMAL)
                return true;
        if (!dlist_u32(item, *why_r = "LAST_UID", &v->last_uid) || v->last_uid == UINT32_MAX ||
            !dlist_u32(item, *why_r = "RECENTUID", &v->recentuid) ||
            !dlist_date(item, *why_r = "RECENTTIME", &v->recent_time) ||
            !dlist_date(item, *why_r = "LAST_APPENDDATE", &v->last_appenddate) ||
            !dlist_date(item, *why_r = "POP3_LAST_LOGIN", &v->pop3_last_login) ||
            !dlist_u32(item, *why_r = "UIDVALIDITY", &v->uidvalidity) || v->uidvalidity == 0 ||
            !dlist_text(item, *why_r = "PARTITION", &v->partition) ||
            !dlist_text(item, *why_r = "ACL", &v->acl) ||
            !dlist_str(item, *why_r = "OPTIONS", &options) ||
            !sync_read_annots(item, "ANNOTATIONS", arena, &annots, &v->annots_n, why_r))
                return false;
        v->options = replica_options_parse(options);
        v->annots = annots;
        return true;
}

/* ---- records ---- */

/* One copy for all records. */
static const char *keyword(struct sync_records *records, struct span name)
{
        char *kept;

        if (!records->keywords)
                records->keywords = table_create();
        kept = table_find(records->keywords, name);
        if (!kept) {
                kept = arena_strndup(&records->arena, name.p, name.len);
                (void)table_set(records->keywords, name, kept);
        }
        return kept;
}

static bool read_flags(struct sync_records *records, const struct dlist *item, struct replica_record *rec)
{
        const struct dlist *list;
        const char **keywords = NULL;
        const char *name;

        if (!dlist_list(item, "FLAGS", &list) || list->n > KEYWORDS_MAX)
                return false;
        for (const struct dlist *d = list->first; d; d = d->next) {
                if (!dlist_as_text(d, &name) || (*name != '\\' && !replica_keyword_ok(d->value)))
                        return false;
                if (*name == '\\') {
                        for (size_t i = 0; i < ARRAY_LEN(system_flags); i++)
                                if (strcasecmp(name, system_flags[i].name) == 0)
                                        rec->flags |= system_flags[i].flag;
                        continue;                       /* unknown ones are passed over */
                }
                if (!keywords)
                        keywords = ARENA_ARRAY(&records->arena, const char *, list->n);
                keywords[rec->keywords_n++] = keyword(records, d->value);
        }
        rec->keywords = keywords;
        return true;
}

/* Copies what stays, for the list it was read from will be gone. */
static void keep_annots(struct replica_record *rec, struct arena *arena)
{
        struct annot *kept;

        if (rec->annots_n == 0) {
                rec->annots = NULL;
                return;
        }
        kept = ARENA_ARRAY(arena, struct annot, rec->annots_n);
        for (uint32_t i = 0; i < rec->annots_n; i++)
                kept[i] = (struct annot){ arena_strdup(arena, rec->annots[i].entry), arena_strdup(arena, rec->annots[i].user),
                                          arena_span(arena, rec->annots[i].value), rec->annots[i].modseq };
        rec->annots = kept;
}

int sync_read_record(struct sync_records *records, const struct dlist *item, struct arena *scratch, struct err *err)
{
        struct replica_record rec = { 0 };
        struct annot *annots;
        const char *why;
        uint32_t n;

        if (records->arena.used + records->list.cap * sizeof rec > SYNC_RECORDS_MEMORY)
                return err_set(err, ERR_LIMIT, "the records of one mailbox need more than %zu octets of memory", SYNC_RECORDS_MEMORY);
        if (!dlist_u32(item, why = "UID", &rec.uid) || rec.uid == 0 ||
            !dlist_u64(item, why = "MODSEQ", REPLICA_MODSEQ_MAX, &rec.modseq) ||
            !dlist_date(item, why = "LAST_UPDATED", &rec.last_updated) ||
            (why = "FLAGS", !read_flags(records, item, &rec)) ||
            !dlist_date(item, why = "INTERNALDATE", &rec.internaldate) ||
            !dlist_u64(item, why = "SIZE", UINT32_MAX, &rec.size) ||
            !dlist_guid(item, why = "GUID", rec.guid) ||
            !sync_read_annots(item, "ANNOTATIONS", scratch, &annots, &n, &why))
                return err_set(err, ERR_SYNTAX, "record of UID %" PRIu32 ": %s", rec.uid, why);
        if (replica_take_annots(&rec, annots, n, scratch, err) < 0)
                return err_prefix(err, "record of UID %" PRIu32, rec.uid);
        keep_annots(&rec, &records->arena);
        *ARRAY_PUSH(&records->list) = rec;
        return 0;
}

void sync_records_deinit(struct sync_records *records)
{
        ARRAY_FREE(&records->list);
        table_destroy(&records->keywords);
        arena_deinit(&records->arena);
}
