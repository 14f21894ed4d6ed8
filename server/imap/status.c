/* status - see status.h */
#include "server/imap/status.h"
#include "server/imap/seen.h"

#include <inttypes.h>

#include "server/imap/imap_private.h"
#include "util/array.h"
#include "util/log.h"

static uint64_t messages(const struct mailbox_status *s) { return s->messages; }
static uint64_t recent(const struct mailbox_status *s) { return s->recent; }
static uint64_t uidnext(const struct mailbox_status *s) { return s->uidnext; }
static uint64_t uidvalidity(const struct mailbox_status *s) { return s->uidvalidity; }
static uint64_t unseen(const struct mailbox_status *s) { return s->unseen; }
static uint64_t deleted(const struct mailbox_status *s) { return s->deleted; }
static uint64_t deleted_storage(const struct mailbox_status *s) { return s->deleted_size; }
static uint64_t size(const struct mailbox_status *s) { return s->size; }
static uint64_t highestmodseq(const struct mailbox_status *s) { return s->highestmodseq; }

static const struct item {
        const char *name;
        uint64_t (*value)(const struct mailbox_status *s);
} items_table[] = {
        { "MESSAGES", messages },
        { "RECENT", recent },                           /* RFC 3501 only; harmless for others */
        { "UIDNEXT", uidnext },
        { "UIDVALIDITY", uidvalidity },
        { "UNSEEN", unseen },
        { "DELETED", deleted },                         /* RFC 9051 */
        { "SIZE", size },                               /* RFC 8438 */
        { "HIGHESTMODSEQ", highestmodseq },             /* RFC 7162 3.1.7 */
        { "APPENDLIMIT", NULL },                        /* RFC 7889 3.1 */
        { "MAILBOXID", NULL },                          /* RFC 8474 4.3 */
        { "DELETED-STORAGE", deleted_storage },         /* RFC 9208 4.1.4, octets */
};
#define ITEM_MAILBOXID (1u << 9)
#define ITEM_UNSEEN (1u << 4)
#define ITEM_HIGHESTMODSEQ (1u << 7)

/* RFC 7889 3.1: no matter of the mailbox. */
static bool is_append_limit(const struct item *item)
{
        return item->value == NULL;
}

static unsigned item_bit(struct span word)
{
        for (size_t i = 0; i < ARRAY_LEN(items_table); i++)
                if (imap_word_is(word, items_table[i].name))
                        return 1u << i;
        return 0;
}

unsigned imap_status_parse(struct imap_parser *ip)
{
        unsigned items = 0, bit;
        struct span word;

        if (imap_open_paren(ip) < 0)
                return 0;
        do {
                if (imap_atom(ip, &word) < 0)
                        return 0;
                bit = item_bit(word);
                if (!bit) {
                        err_set(&ip->err, ERR_SYNTAX, "Unknown STATUS item %.*s", (int)(word.len < 40 ? word.len : 40), word.p);
                        return 0;
                }
                items |= bit;
        } while (imap_skip_c(ip, ' '));
        return imap_close_paren(ip) < 0 ? 0 : items;
}

void imap_status_asked(struct imap *imap, unsigned items)
{
        if ((items & ITEM_HIGHESTMODSEQ) && !imap->condstore)
                imap_enable_condstore(imap);
}

void imap_status_put(struct imap *imap, const char *internal, struct mailbox *mbox, unsigned items)
{
        struct mailbox_status status;
        struct err err = ERR_INIT;
        const char *space = "";

        if (!(items & ITEM_UNSEEN))
                mailbox_status(mbox, &status);
        else if (imap_mailbox_status(imap, internal, mbox, &status, &err) < 0)          /* better all others than none */
                log_event(LOG_ERROR, imap->s->name, "imap.seen.failed", "reason=\"%s\"", err.text);
        imap_put(imap, "* STATUS ");
        imap_put_mailbox(imap, internal);
        imap_put(imap, " (");
        for (size_t i = 0; i < ARRAY_LEN(items_table); i++) {
                if (!(items & (1u << i)))
                        continue;
                if (1u << i == ITEM_MAILBOXID) {
                        imap_put(imap, "%s%s (%s)", space, items_table[i].name, mailbox_uniqueid(mbox));
                        space = " ";
                        continue;
                }
                imap_put(imap, "%s%s %" PRIu64, space, items_table[i].name,
                         is_append_limit(&items_table[i]) ? imap_append_limit(imap) : items_table[i].value(&status));
                space = " ";
        }
        imap_put(imap, ")\r\n");
}
