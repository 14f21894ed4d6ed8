/* LISTRIGHTS mailbox identifier (RFC 4314 3.4). No rights are tied together, so the legacy ones, c and d, stand by themselves (2.1.1) –
 * but c among the rights that are always granted when k or x is there, and d likewise for t and e. */
#include "server/imap/aclcmd.h"
#include "server/imap/imap_private.h"

/* What can never be taken from the identifier. Who is an administrator is not told, as with Cyrus. */
static uint32_t required_rights(struct imap *imap, const struct mbentry *entry, const char *identifier)
{
        return mailname_owned_by(entry->name, identifier) ? imap->owner_rights : 0;
}

static void put_rights(struct imap *imap, const struct mbentry *entry, const char *identifier)
{
        static const char letters[] = "lrswipkxtecdan0123456789";
        uint32_t required = required_rights(imap, entry, identifier), bit;
        char always[sizeof letters];
        size_t n = 0;

        for (const char *p = letters; *p; p++)
                if (acl_parse_rights((struct span){ p, 1 }, &bit, NULL) == 0 && (required & bit))     /* c: of either member */
                        always[n++] = *p;
        imap_put(imap, "* LISTRIGHTS ");
        imap_put_mailbox(imap, entry->name);
        imap_put(imap, " ");
        imap_put_astring(imap, span_of(identifier));
        imap_put(imap, " ");
        imap_put_astring(imap, (struct span){ always, n });
        for (const char *p = letters; *p; p++)
                if (!memchr(always, *p, n))
                        imap_put(imap, " %c", *p);
        imap_put(imap, "\r\n");
}

enum cmd_result cmd_listrights(struct imap *imap)
{
        const struct mbentry *entry = imap_acl_mailbox(imap);
        const char *identifier;
        enum cmd_result r = CMD_DONE;

        if (!entry)
                return CMD_DONE;
        if (imap_acl_identifier(imap, &identifier)) {
                if (imap_end(&imap->cmd.args) < 0) {
                        r = imap_bad(imap, "%s", imap->cmd.args.err.text);
                } else {
                        put_rights(imap, entry, identifier);
                        r = imap_ok(imap, NULL, "Completed");
                }
        }
        mbentry_unref(&entry);
        return r;
}
