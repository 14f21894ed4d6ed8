/* search_read - how SEARCH reads messages; see search_private.h */
#include "server/imap/search_private.h"

#include <inttypes.h>
#include <stdlib.h>

#include "server/imap/annotation.h"
#include "util/charset.h"
#include "util/must.h"

static void close_extent(struct extent *e)
{
        file_unref(&e->file);
}

void search_reader_end_batch(struct search_reader *r)
{
        for (unsigned i = 0; i < WALK_MAX; i++)
                close_extent(&r->ahead[i]);
        r->known_end = 0;
}

static void forget_annots(struct search_reader *r)
{
        arena_deinit(&r->annots.arena);
        r->annots.uid = r->annots.n = 0;
}

void search_reader_pause(struct search_reader *r)
{
        search_reader_end_batch(r);
        forget_annots(r);
        file_unref(&r->file);
        free(r->buf);
        r->buf = NULL;
        r->len = 0;
}

void search_reader_release(struct search_reader *r)
{
        search_reader_pause(r);
        close_extent(&r->body);
}

static bool in_window(const struct search_reader *r, const struct file *file, uint64_t offset, uint64_t len)
{
        return r->file == file && r->len && offset >= r->offset && offset + len <= r->offset + r->len;
}

/* Open ahead[i] if it is not yet. */
static int open_body(struct search_reader *r, const struct msg *m, uint32_t i, struct err *err)
{
        if (r->ahead[i].file)
                return 0;
        if (mailbox_body(r->mbox, m, &r->ahead[i], err) == 0)
                return 0;
        r->ahead[i].file = NULL;
        return -1;
}

void search_reader_ahead(struct search_reader *r, const struct walk_batch *b, uint32_t i, const enum search_result *results)
{
        struct extent *first = &r->ahead[i];
        struct err err = ERR_INIT;
        uint64_t end;

        if (open_body(r, &b->msg[i], i, &err) < 0 || in_window(r, first->file, first->offset, first->len))
                return;
        end = first->offset + first->len;
        for (uint32_t k = i + 1; k < b->n; k++) {
                const struct extent *next = &r->ahead[k];

                if (results[k] != SEARCH_MORE)
                        continue;
                if (open_body(r, &b->msg[k], k, &err) < 0 || next->file != first->file || next->offset < end ||
                    next->offset + next->len - first->offset > SEARCH_WINDOW)
                        break;
                end = next->offset + next->len;
        }
        r->known_end = end;
}

int search_reader_open(struct search_reader *r, const struct msg *m, uint32_t n, uint32_t i, struct err *err)
{
        must(i < n && n <= WALK_MAX);
        close_extent(&r->body);
        if (open_body(r, m, i, err) < 0)
                return -1;
        r->body = r->ahead[i];                                  /* the reference goes over */
        r->ahead[i].file = NULL;
        return 0;
}

/* Bring `len` octets at `offset` of the message into the window. */
static int fill(struct search_reader *r, uint64_t offset, size_t len, struct err *err)
{
        uint64_t at, end;
        size_t n;

        if (offset > r->body.len || len > r->body.len - offset)
                return err_set(err, ERR_CORRUPT, "a part ends at %" PRIu64 ", the message at %" PRIu64, offset + len, r->body.len);
        at = r->body.offset + offset;
        if (in_window(r, r->body.file, at, len))
                return 0;
        end = r->body.offset + r->body.len;
        if (r->known_end > end)
                end = r->known_end;
        n = end - at < SEARCH_WINDOW ? (size_t)(end - at) : SEARCH_WINDOW;
        must(len <= n);
        if (!r->buf)
                r->buf = xmalloc(SEARCH_WINDOW);
        r->len = 0;
        if (r->file != r->body.file) {
                file_unref(&r->file);
                r->file = file_ref(r->body.file);
        }
        if (file_read(r->file, r->buf, n, at, err) < 0)
                return -1;
        r->offset = at;
        r->len = n;
        return 0;
}

const char *search_peek(void *ctx, uint64_t offset, size_t len)
{
        struct search_reader *r = ctx;
        struct err err = ERR_INIT;

        if (len > SEARCH_WINDOW || fill(r, offset, len, &err) < 0)
                return NULL;                                    /* search_read() says why */
        return r->buf + (r->body.offset + offset - r->offset);
}

int search_read(void *ctx, uint64_t offset, void *buf, size_t len, struct err *err)
{
        struct search_reader *r = ctx;

        if (offset > r->body.len || len > r->body.len - offset)
                return err_set(err, ERR_CORRUPT, "a part ends at %" PRIu64 ", the message at %" PRIu64, offset + len, r->body.len);
        return file_read(r->body.file, buf, len, r->body.offset + offset, err);
}

/* ---- annotations ---- */

static void read_annots(struct search_reader *r)
{
        if (r->annots.uid == r->uid)
                return;
        forget_annots(r);
        r->annots.uid = r->uid;
        r->annots.n = mailbox_annots(r->mbox, r->uid, r->userid, &r->annots.arena, &r->annots.v);
        r->annots.canonical = r->annots.n ? ARENA_ARRAY(&r->annots.arena, struct span, r->annots.n) : NULL;
}

/* In the form in which needles are. */
static struct span canonical(struct search_reader *r, uint32_t i)
{
        struct span *known = &r->annots.canonical[i];
        struct str text = STR_INIT;

        if (!known->p) {
                casemap_span(r->annots.v[i].value, &text);
                *known = arena_span(&r->annots.arena, str_span(&text));
                str_deinit(&text);
        }
        return *known;
}

static bool entry_matches(struct span pattern, const char *entry)
{
        bool wild = memchr(pattern.p, '*', pattern.len) || memchr(pattern.p, '%', pattern.len);

        return wild ? annotation_matches(pattern, entry) : span_eq_str(pattern, entry);
}

bool search_has_annotation(void *ctx, const struct search_key *k, struct span needle)
{
        struct search_reader *r = ctx;
        uint32_t there = 0;

        read_annots(r);
        for (uint32_t i = 0; i < r->annots.n; i++) {
                uint32_t which = *r->annots.v[i].user ? SEARCH_PRIVATE : SEARCH_SHARED;
                struct span text;

                if (!(k->flags & which) || !entry_matches(k->field, r->annots.v[i].entry))
                        continue;
                there |= which;
                if (!k->text.p)
                        continue;
                text = canonical(r, i);
                if (!needle.len || (text.len >= needle.len && memmem(text.p, text.len, needle.p, needle.len)))
                        return true;
        }
        return !k->text.p && (k->flags & ~there);               /* NIL: one of those asked for has no value */
}

/* ---- keywords ---- */

/* Names are looked up once: the program's strings stand still, so their addresses name them. */
static int keyword_id(struct search_reader *r, struct span keyword)
{
        struct mailbox *mbox = r->mbox;
        int id;

        for (unsigned i = 0; i < r->keywords_n; i++)
                if (r->keywords[i].name == keyword.p)
                        return r->keywords[i].id;
        id = mailbox_keyword_find(mbox, keyword);
        if (r->keywords_n < SEARCH_KEYWORDS_CACHED) {
                r->keywords[r->keywords_n].name = keyword.p;
                r->keywords[r->keywords_n++].id = id;
        }
        return id;
}

bool search_has_keyword(void *ctx, struct span keyword)
{
        struct search_reader *r = ctx;
        const struct kwset *set;
        uint32_t low = 0, high;
        int id;

        if (!r->kwset)
                return false;
        set = mailbox_kwset(r->mbox, r->kwset);
        id = keyword_id(r, keyword);
        high = set ? set->n : 0;
        while (id >= 0 && low < high) {
                uint32_t mid = low + (high - low) / 2;

                if (set->ids[mid] == id)
                        return true;
                if (set->ids[mid] < id)
                        low = mid + 1;
                else
                        high = mid;
        }
        return false;
}
