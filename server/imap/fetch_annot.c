/*
 * fetch_annot - the ANNOTATION item of FETCH (RFC 5257 4.3, 4.4); see fetch.h
 *
 * Entries come in the order in which they were asked for; what a wildcard stands for only when there is something of it. A value is read
 * when it is its turn: a message can have megabytes of them.
 */
#include "server/imap/fetch_private.h"

#define LINE_HIGH 16384

/* What matches the specifier and no former one, or NULL. */
static const char *next_wild(struct fetch_state *st, const struct annotation_item *item)
{
        while (st->annot.name < st->annot.names_n) {
                const char *name = st->annot.names[st->annot.name++];
                bool before = false;

                if (!annotation_matches(item->entries[st->annot.specifier].pattern, name))
                        continue;
                for (unsigned i = 0; i < st->annot.specifier && !before; i++) {
                        const struct annotation_specifier *s = &item->entries[i];

                        before = s->wild ? annotation_matches(s->pattern, name) : span_eq_str(s->pattern, name);
                }
                if (!before)
                        return name;
        }
        return NULL;
}

static void put_entry(struct imap *imap, struct fetch_state *st, const struct annotation_item *item, const char *entry, bool wild)
{
        struct arena arena = ARENA_INIT;
        struct span shared, private;

        mailbox_annot_values(imap->sel->mbox, st->msg.uid, entry, imap->userid, &arena, &shared, &private);
        if (!wild || annotation_has_any(item, shared, private)) {
                if (!st->annot.begun) {
                        fetch_separate(st);
                        str_append_str(&st->line, "ANNOTATION (");
                } else {
                        str_append_c(&st->line, ' ');
                }
                st->annot.begun = true;
                annotation_append(item, entry, shared, private, imap->rev2 || imap->utf8, &st->line);
        }
        arena_deinit(&arena);
}

/* The next entry of the item. False: there is none any more. */
static bool put_next(struct imap *imap, struct fetch_state *st, const struct annotation_item *item)
{
        const struct annotation_specifier *s;
        const char *entry;

        if (st->annot.specifier == item->entries_n)
                return false;
        s = &item->entries[st->annot.specifier];
        if (s->wild) {
                if (!st->annot.read)
                        st->annot.names_n = mailbox_annot_names(imap->sel->mbox, st->msg.uid, imap->userid, 0, &st->arena, &st->annot.names);
                st->annot.read = true;
                entry = next_wild(st, item);
                if (entry) {
                        put_entry(imap, st, item, entry, true);
                        return true;
                }
        } else if (!st->annot.parts_known || annotation_part_exists(&s->part, &st->front)) {
                put_entry(imap, st, item, s->pattern.p, false);
        } else {
                st->no_part = true;
        }
        st->annot.specifier++;
        st->annot.name = 0;
        return true;
}

enum cmd_result fetch_put_annotations(struct imap *imap, struct fetch_state *st)
{
        enum cmd_result result;

        while (st->annot.item) {
                if (!put_next(imap, st, st->annot.item)) {
                        if (st->annot.begun)
                                str_append_c(&st->line, ')');
                        st->annot.begun = false;
                        st->annot.specifier = 0;
                        st->annot.name = 0;
                        st->annot.item = st->annot.item->next;
                }
                if (st->line.len > LINE_HIGH)
                        fetch_flush(imap, st);
                result = imap_yield(imap);
                if (st->annot.item && result != CMD_DONE)
                        return result;
        }
        return CMD_DONE;
}
