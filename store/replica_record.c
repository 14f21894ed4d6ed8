/*
 * replica_record - records of messages as csync has them, and the two sync CRCs (csync 8).
 * The CRC of a mailbox is the XOR of its records', so each is a number of its own and their order does not matter.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "store/acl.h"
#include "store/replica_private.h"

static const struct {
        uint32_t flag;
        const char *name;
} crc_flags[] = {
        { MSG_DELETED, "\\deleted" }, { MSG_ANSWERED, "\\answered" }, { MSG_FLAGGED, "\\flagged" }, { MSG_DRAFT, "\\draft" },
        { MSG_SEEN, "\\seen" },
};

const char *replica_code_text(enum replica_code code)
{
        switch (code) {
        case REPLICA_OK:
                return "success";
        case REPLICA_NONEXISTENT:
                return "IMAP_MAILBOX_NONEXISTENT No Such Mailbox";
        case REPLICA_LOCKED:
                return "IMAP_MAILBOX_LOCKED Mailbox locked";
        case REPLICA_MOVED:
                return "IMAP_MAILBOX_MOVED Mailbox exists with another name or uniqueid";
        case REPLICA_NOTSUPPORTED:
                return "IMAP_MAILBOX_NOTSUPPORTED Operation is not supported on mailbox";
        case REPLICA_CHECKSUM:
                return "IMAP_SYNC_CHECKSUM Checksum Failure";
        case REPLICA_CHANGED:
                return "IMAP_SYNC_CHANGED Changed since last sync";
        case REPLICA_BAD:
                return "IMAP_PROTOCOL_BAD_PARAMETERS";
        case REPLICA_FAILED:
                break;
        }
        return "Unknown error";
}

bool replica_crcs_match(struct replica_crcs a, struct replica_crcs b)
{
        return !(a.basic && b.basic && a.basic != b.basic) && !(a.annot && b.annot && a.annot != b.annot);
}

static const struct {
        char letter;
        uint32_t option;
} option_letters[] = {
        { 'P', MBOX_POP3_NEW_UIDL }, { 'S', MBOX_SHARED_SEEN }, { 'D', MBOX_DUPLICATE_DELIVER }, { 'A', MBOX_HAS_ALARMS },
};

void replica_options_text(uint32_t options, struct str *out)
{
        for (size_t i = 0; i < ARRAY_LEN(option_letters); i++)
                if (options & option_letters[i].option)
                        str_append_c(out, option_letters[i].letter);
}

uint32_t replica_options_parse(struct span letters)
{
        uint32_t options = 0;

        for (size_t i = 0; i < letters.len; i++)
                for (size_t k = 0; k < ARRAY_LEN(option_letters); k++)
                        if (letters.p[i] == option_letters[k].letter)
                                options |= option_letters[k].option;
        return options;
}

bool replica_keyword_ok(struct span keyword)
{
        for (size_t i = 0; i < keyword.len; i++)
                if ((unsigned char)keyword.p[i] <= ' ' || (unsigned char)keyword.p[i] >= 0x7f || strchr("(){%*\"\\", keyword.p[i]))
                        return false;
        return keyword.len > 0 && keyword.len <= KEYWORD_BYTES_MAX;
}

int replica_check_keywords(const struct replica_record *rec, struct err *err)
{
        if (rec->keywords_n > KEYWORDS_MAX)
                return err_set(err, ERR_SYNTAX, "message %u has more than %d keywords", rec->uid, KEYWORDS_MAX);
        for (uint32_t i = 0; i < rec->keywords_n; i++)
                if (!replica_keyword_ok(span_of(rec->keywords[i])))
                        return err_set(err, ERR_SYNTAX, "message %u: a keyword is an atom of 1 to %d octets", rec->uid, KEYWORD_BYTES_MAX);
        return 0;
}

bool replica_acl_ok(const char *acl)
{
        size_t fields = 0;

        if (strlen(acl) > ACL_LIST_MAX)
                return false;
        for (const char *p = acl; *p; fields++) {
                const char *tab = strchr(p, '\t');

                if (!tab || tab == p)
                        return false;
                for (const char *q = p; q < tab; q++)
                        if ((unsigned char)*q < ' ' || *q == 0x7f)
                                return false;
                p = tab + 1;
        }
        return fields % 2 == 0;
}

bool replica_uniqueid_ok(struct span id)
{
        bool hex = true;

        for (size_t i = 0; i < id.len; i++) {
                if (!ascii_isalpha(id.p[i]) && !ascii_isdigit(id.p[i]))
                        return false;
                hex = hex && (ascii_isdigit(id.p[i]) || (ascii_lower(id.p[i]) >= 'a' && ascii_lower(id.p[i]) <= 'f'));
        }
        return id.len == 24 || (id.len == 16 && hex);
}

/* ---- CRCs ---- */

static uint32_t crc_of(const char *p, size_t len)
{
        return (uint32_t)crc32(0, (const unsigned char *)p, (unsigned)len);
}

static uint32_t crc_of_flags(const struct replica_record *rec)
{
        uint32_t crc = 0;

        for (size_t i = 0; i < ARRAY_LEN(crc_flags); i++)
                if (rec->flags & crc_flags[i].flag)
                        crc ^= crc_of(crc_flags[i].name, strlen(crc_flags[i].name));
        for (uint32_t i = 0; i < rec->keywords_n; i++) {
                char lower[KEYWORD_BYTES_MAX];
                size_t n = 0;

                for (const char *p = rec->keywords[i]; *p && n < sizeof lower; p++)
                        lower[n++] = ascii_lower(*p);
                crc ^= crc_of(lower, n);
        }
        return crc;
}

/* Digits of n, written before `end`. */
static char *digits(char *end, uint64_t n)
{
        do
                *--end = (char)('0' + n % 10);
        while (n /= 10);
        return end;
}

struct crc_text {
        char p[256];
        size_t len;
};

static void add_number(struct crc_text *t, uint64_t n)
{
        char buf[20], *from = digits(buf + sizeof buf, n);
        size_t len = (size_t)(buf + sizeof buf - from);

        memcpy(t->p + t->len, from, len);
        t->len += len;
}

static void add_signed(struct crc_text *t, int64_t n)
{
        if (n < 0)
                t->p[t->len++] = '-';
        add_number(t, n < 0 ? -(uint64_t)n : (uint64_t)n);
}

static uint32_t crc_basic(const struct replica_record *rec)
{
        struct crc_text t = { .len = 0 };

        add_number(&t, rec->uid);
        t.p[t.len++] = ' ';
        add_number(&t, rec->modseq);
        t.p[t.len++] = ' ';
        add_signed(&t, rec->last_updated);
        t.p[t.len++] = ' ';
        t.p[t.len++] = '(';
        add_number(&t, crc_of_flags(rec));
        t.p[t.len++] = ')';
        t.p[t.len++] = ' ';
        add_signed(&t, rec->internaldate);
        t.p[t.len++] = ' ';
        hex_encode(t.p + t.len, rec->guid, GUID_SIZE);
        return crc_of(t.p, t.len + (size_t)2 * GUID_SIZE);
}

static uint32_t crc_annot(uint32_t uid, const char *entry, const char *user, struct span value)
{
        struct crc_text t = { .len = 0 };
        uint32_t crc;

        add_number(&t, uid);
        t.p[t.len++] = ' ';
        crc = crc_of(t.p, t.len);
        crc = (uint32_t)crc32(crc, (const unsigned char *)entry, (unsigned)strlen(entry));
        crc = (uint32_t)crc32(crc, (const unsigned char *)" ", 1);
        crc = (uint32_t)crc32(crc, (const unsigned char *)user, (unsigned)strlen(user));
        crc = (uint32_t)crc32(crc, (const unsigned char *)" ", 1);
        return value.len ? (uint32_t)crc32(crc, (const unsigned char *)value.p, (unsigned)value.len) : crc;
}

static uint32_t crc_virtual(uint32_t uid, const char *entry, int64_t n)
{
        struct crc_text t = { .len = 0 };

        add_signed(&t, n);
        return crc_annot(uid, entry, "", (struct span){ t.p, t.len });
}

void replica_crc_record(struct replica_crcs *crcs, const struct replica_record *rec)
{
        char hex[17];

        if (rec->flags & MSG_EXPUNGED)
                return;
        crcs->basic ^= crc_basic(rec);
        for (uint32_t i = 0; i < rec->annots_n; i++)
                if (!replica_is_virtual(rec->annots[i].entry))
                        crcs->annot ^= crc_annot(rec->uid, rec->annots[i].entry, rec->annots[i].user, rec->annots[i].value);
        if (rec->thrid) {                               /* here without leading zeros */
                snprintf(hex, sizeof hex, "%" PRIx64, rec->thrid);
                crcs->annot ^= crc_annot(rec->uid, REPLICA_THRID, "", span_of(hex));
        }
        if (rec->savedate)
                crcs->annot ^= crc_virtual(rec->uid, REPLICA_SAVEDATE, rec->savedate);
        if (rec->createdmodseq) {
                struct crc_text t = { .len = 0 };

                add_number(&t, rec->createdmodseq);
                crcs->annot ^= crc_annot(rec->uid, REPLICA_CREATEDMODSEQ, "", (struct span){ t.p, t.len });
        }
}

/* ---- annotations ---- */

bool replica_is_virtual(const char *entry)
{
        return strcmp(entry, REPLICA_THRID) == 0 || strcmp(entry, REPLICA_SAVEDATE) == 0 || strcmp(entry, REPLICA_CREATEDMODSEQ) == 0;
}

uint32_t replica_wire_annots(const struct replica_record *rec, struct arena *arena, struct annot **list_r)
{
        struct annot *list = ARENA_ARRAY(arena, struct annot, rec->annots_n + 3);
        uint32_t n = 0;

        for (uint32_t i = 0; i < rec->annots_n; i++)
                if (!replica_is_virtual(rec->annots[i].entry))
                        list[n++] = rec->annots[i];
        if (rec->thrid)
                list[n++] = (struct annot){ REPLICA_THRID, "", span_of(arena_printf(arena, "%016" PRIx64, rec->thrid)), 0 };
        if (rec->savedate)
                list[n++] = (struct annot){ REPLICA_SAVEDATE, "", span_of(arena_printf(arena, "%" PRId64, rec->savedate)), 0 };
        if (rec->createdmodseq)
                list[n++] = (struct annot){ REPLICA_CREATEDMODSEQ, "", span_of(arena_printf(arena, "%" PRIu64, rec->createdmodseq)), 0 };
        *list_r = list;
        return n;
}

static bool parse_hex(struct span value, uint64_t *n_r)
{
        uint64_t n = 0;

        if (value.len == 0 || value.len > 16)
                return false;
        for (size_t i = 0; i < value.len; i++) {
                char c = ascii_lower(value.p[i]);

                if (!ascii_isdigit(c) && (c < 'a' || c > 'f'))
                        return false;
                n = n << 4 | (uint64_t)(ascii_isdigit(c) ? c - '0' : c - 'a' + 10);
        }
        *n_r = n;
        return true;
}

static int take_virtual(struct replica_record *rec, const struct annot *a, struct err *err)
{
        uint64_t n = 0;
        bool ok;

        if (strcmp(a->entry, REPLICA_THRID) == 0) {
                ok = parse_hex(a->value, &n);
                rec->thrid = n;
        } else if (strcmp(a->entry, REPLICA_SAVEDATE) == 0) {
                ok = span_u64(a->value, INT64_MAX, &n);
                rec->savedate = (int64_t)n;
        } else {
                ok = span_u64(a->value, INT64_MAX, &n);
                rec->createdmodseq = n;
        }
        return ok ? 0 : err_set(err, ERR_SYNTAX, "message %u: %s cannot be %.*s", rec->uid, a->entry, a->value.len > 40 ? 40 : (int)a->value.len,
                                a->value.p);
}

static int by_name(const void *a, const void *b)
{
        return annot_compare(a, b);
}

int replica_take_annots(struct replica_record *rec, const struct annot *list, uint32_t n, struct arena *arena, struct err *err)
{
        struct annot *real = ARENA_ARRAY(arena, struct annot, n ? n : 1);
        uint32_t kept = 0;

        for (uint32_t i = 0; i < n; i++) {
                if (!list[i].value.p)
                        continue;
                if (!replica_is_virtual(list[i].entry))
                        real[kept++] = list[i];
                else if (!*list[i].user && take_virtual(rec, &list[i], err) < 0)
                        return -1;
        }
        if (kept > 1)
                qsort(real, kept, sizeof *real, by_name);
        rec->annots = real;
        rec->annots_n = kept;
        return 0;
}

/* ---- from the index ---- */

/* The protocol has no dates before 1970: with others the CRCs would never be those of what is sent. */
static int64_t wire_date(int64_t date)
{
        return date > 0 ? date : 0;
}

static void record_without_keywords(const struct index_rec *rec, struct replica_record *out)
{
        *out = (struct replica_record){ .uid = rec->uid, .flags = rec->flags & (MSG_SYSTEM_FLAGS | MSG_EXPUNGED | MSG_UNLINKED),
                .modseq = rec->modseq, .createdmodseq = rec->createdmodseq, .thrid = rec->flags & MSG_OWN_THRID ? 0 : rec->thrid,
                .last_updated = wire_date(rec->last_updated), .internaldate = wire_date(rec->internaldate), .savedate = wire_date(rec->savedate),
                .size = rec->size };
        memcpy(out->guid, rec->guid, GUID_SIZE);
}

/* `names` NULL: those of now. */
static void add_keywords(struct mailbox *m, const struct kwset *set, const char *const *names, uint32_t n, struct arena *arena,
                         struct replica_record *out)
{
        const char **list;

        if (!set || !set->n)
                return;
        list = ARENA_ARRAY(arena, const char *, set->n);
        for (uint32_t i = 0; i < set->n; i++) {
                const char *name = set->ids[i] >= n ? NULL : names ? names[set->ids[i]] : kwtab_name(&m->kw, set->ids[i]);

                if (name)
                        list[out->keywords_n++] = name;
        }
        out->keywords = list;
}

void replica_record_of(struct mailbox *m, const struct index_rec *rec, struct arena *arena, struct replica_record *out)
{
        record_without_keywords(rec, out);
        add_keywords(m, mailbox_kwset(m, rec->kwset), NULL, mailbox_keyword_count(m), arena, out);
}

void replica_record_then(struct mailbox *m, const struct index_rec *rec, const char *const *names, uint32_t n, struct arena *arena,
                         struct replica_record *out)
{
        record_without_keywords(rec, out);
        if (n)
                add_keywords(m, mailbox_kwset(m, rec->kwset), names, n, arena, out);
}
