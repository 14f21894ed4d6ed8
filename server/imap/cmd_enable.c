/*
 * ENABLE (RFC 9051 6.3.1, RFC 5161). Unknown extensions are ignored, as are those that `suppress_capabilities` hides; what is already
 * on is not told again.
 */
#include "server/imap/imap_private.h"
#include "util/array.h"

static bool has_condstore(struct imap *imap) { return imap->condstore; }
static bool has_qresync(struct imap *imap) { return imap->qresync; }
static bool has_uidonly(struct imap *imap) { return imap->uidonly; }
static bool has_utf8(struct imap *imap) { return imap->utf8; }
static bool has_rev2(struct imap *imap) { return imap->rev2; }

static void enable_qresync(struct imap *imap)                   /* RFC 7162 3.2.3: CONDSTORE too */
{
        imap->qresync = true;
        imap_enable_condstore(imap);
}

static void enable_uidonly(struct imap *imap)
{
        imap->uidonly = true;
}

static void enable_utf8(struct imap *imap)
{
        imap->utf8 = true;
}

static void enable_rev2(struct imap *imap)
{
        imap->rev2 = true;
}

static const struct extension {
        const char *name;
        bool (*is_on)(struct imap *imap);
        void (*enable)(struct imap *imap);
} extensions[] = {                              /* in the order of the reply */
        { "CONDSTORE", has_condstore, imap_enable_condstore },  /* RFC 7162 */
        { "QRESYNC", has_qresync, enable_qresync },
        { "UIDONLY", has_uidonly, enable_uidonly },             /* RFC 9586 */
        { "UTF8=ACCEPT", has_utf8, enable_utf8 },               /* RFC 9755 */
        { "IMAP4rev2", has_rev2, enable_rev2 },                 /* RFC 9051 */
};

enum cmd_result cmd_enable(struct imap *imap)
{
        struct imap_parser *ip = &imap->cmd.args;
        bool wanted[ARRAY_LEN(extensions)] = { false };
        struct span word;

        do {
                if (imap_sp(ip) < 0 || imap_atom(ip, &word) < 0)
                        return imap_bad(imap, "%s", ip->err.text);
                for (size_t i = 0; i < ARRAY_LEN(extensions); i++)
                        wanted[i] |= imap_word_is(word, extensions[i].name);
        } while (!imap_at_end(ip));
        imap_put(imap, "* ENABLED");
        for (size_t i = 0; i < ARRAY_LEN(extensions); i++) {
                wanted[i] = wanted[i] && !extensions[i].is_on(imap) && !imap_suppressed(imap, extensions[i].name);
                if (wanted[i])
                        imap_put(imap, " %s", extensions[i].name);
        }
        imap_put(imap, "\r\n");
        for (size_t i = 0; i < ARRAY_LEN(extensions); i++)
                if (wanted[i])
                        extensions[i].enable(imap);
        return imap_ok(imap, NULL, "Completed");
}
