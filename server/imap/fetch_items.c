/* fetch_items - FETCH items that are kept with the message: no octets of its own are read; see fetch.h */
#include "server/imap/fetch_private.h"

#include "server/imap/objectid.h"
#include "store/preview.h"
#include "util/clock.h"

static void put_uid(struct imap *imap, struct fetch_state *st)
{
        (void)imap;
        str_append(&st->line, "UID ", 4);
        str_append_u64(&st->line, st->msg.uid);
}

static void put_flags(struct imap *imap, struct fetch_state *st)
{
        imap_append_flags(imap, &st->msg, &st->flag_text, &st->line);
}

static void put_internaldate(struct imap *imap, struct fetch_state *st)
{
        char date[CLOCK_IMAP_DATE_LEN + 1];

        (void)imap;
        clock_format_imap(date, st->msg.internaldate);
        str_append(&st->line, "INTERNALDATE ", 13);
        str_append(&st->line, date, CLOCK_IMAP_DATE_LEN);
}

static void put_savedate(struct imap *imap, struct fetch_state *st)
{
        char date[CLOCK_IMAP_DATE_LEN + 1];

        (void)imap;
        clock_format_imap(date, st->msg.savedate);
        str_append(&st->line, "SAVEDATE ", 9);
        str_append(&st->line, date, CLOCK_IMAP_DATE_LEN);
}

static void put_emailid(struct imap *imap, struct fetch_state *st)
{
        char id[OBJECTID_SIZE];

        (void)imap;
        objectid_email(&st->msg, id);
        str_printf(&st->line, "EMAILID (%s)", id);
}

static void put_threadid(struct imap *imap, struct fetch_state *st)
{
        char id[OBJECTID_SIZE];

        (void)imap;
        objectid_thread(&st->msg, id);
        if (*id)
                str_printf(&st->line, "THREADID (%s)", id);
        else
                str_append_str(&st->line, "THREADID NIL");
}

static void put_size(struct imap *imap, struct fetch_state *st)
{
        (void)imap;
        str_append(&st->line, "RFC822.SIZE ", 12);
        str_append_u64(&st->line, st->msg.size);
}

static void put_modseq(struct imap *imap, struct fetch_state *st)
{
        (void)imap;
        str_append(&st->line, "MODSEQ (", 8);
        str_append_u64(&st->line, st->msg.modseq);
        str_append_c(&st->line, ')');
}

/* A text rendered at arrival. A message can have megabytes of it: those go out from the file, so that no peer that does not read has
 * them held in memory. */
static void put_rendered(struct imap *imap, struct fetch_state *st, struct span text, uint64_t at)
{
        struct extent piece = { st->front.file, at, text.len };

        if (text.p || !text.len) {
                str_append_span(&st->line, text);
                return;
        }
        fetch_flush(imap, st);
        file_ref(piece.file);
        rope_append_extent(&imap->s->out, &piece);
}

static void put_envelope(struct imap *imap, struct fetch_state *st)
{
        str_append(&st->line, "ENVELOPE ", 9);
        put_rendered(imap, st, st->front.envelope, st->front.envelope_at);
}

static void put_body(struct imap *imap, struct fetch_state *st)
{
        str_append(&st->line, "BODY ", 5);
        put_rendered(imap, st, st->front.body, st->front.body_at);
}

static void put_bodystructure(struct imap *imap, struct fetch_state *st)
{
        str_append(&st->line, "BODYSTRUCTURE ", 14);
        put_rendered(imap, st, st->front.bodystructure, st->front.bodystructure_at);
}

static int read_message(void *ctx, uint64_t offset, void *buf, size_t len, struct err *err)
{
        struct fetch_state *st = ctx;

        if (offset + len > st->body.len)
                return err_set(err, ERR_CORRUPT, "uid %u is shorter than it should be", st->msg.uid);
        return file_read(st->body.file, buf, len, st->body.offset + offset, err);
}

/* nstring; UTF-8 in quotes only for who asked for it (RFC 9051 4.3). There are no control characters in it. */
static void put_preview(struct imap *imap, struct fetch_state *st)
{
        const struct preview_source source = { .parts = st->front.parts, .parts_n = st->front.part_count, .read = read_message, .ctx = st };
        struct str text = STR_INIT;
        struct err err = ERR_INIT;

        if (preview_make(&source, &text, &err) < 0)
                fetch_note_failure(st, &err);
        str_append(&st->line, "PREVIEW ", 8);
        if (charset_is_ascii(str_span(&text)) || imap->rev2 || imap->utf8) {
                str_append_c(&st->line, '"');
                for (size_t i = 0; i < text.len; i++) {
                        if (text.data[i] == '"' || text.data[i] == '\\')
                                str_append_c(&st->line, '\\');
                        str_append_c(&st->line, text.data[i]);
                }
                str_append_c(&st->line, '"');
        } else {
                str_printf(&st->line, "{%zu}\r\n", text.len);
                str_append_span(&st->line, str_span(&text));
        }
        str_deinit(&text);
}

static const struct {
        unsigned item;
        void (*put)(struct imap *imap, struct fetch_state *st);
} items_table[] = {                             /* in the order of the reply */
        { FETCH_UID, put_uid },
        { FETCH_FLAGS, put_flags },
        { FETCH_MODSEQ, put_modseq },
        { FETCH_INTERNALDATE, put_internaldate },
        { FETCH_SAVEDATE, put_savedate },
        { FETCH_EMAILID, put_emailid },
        { FETCH_THREADID, put_threadid },
        { FETCH_SIZE, put_size },
        { FETCH_ENVELOPE, put_envelope },
        { FETCH_BODY, put_body },
        { FETCH_BODYSTRUCTURE, put_bodystructure },
        { FETCH_PREVIEW, put_preview },
};

void fetch_put_items(struct imap *imap, struct fetch_state *st, unsigned items)
{
        for (size_t i = 0; i < sizeof items_table / sizeof items_table[0]; i++)
                if (items & items_table[i].item) {
                        fetch_separate(st);
                        items_table[i].put(imap, st);
                }
}
