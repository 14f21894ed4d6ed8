/* audit - see audit.h */
#include "server/imap/audit.h"

#include <inttypes.h>
#include <stdio.h>

#include "util/log.h"

#define UIDS_MAX 400                            /* octets of a set in a line */

static bool is_on(struct imap *imap)
{
        return conf_switch(imap->conf, imap_service(imap), "auditlog");
}

void imap_audit_messages(struct imap *imap, const char *event, const struct mbentry *entry, const struct uidset *uids, const char *from)
{
        char name[64], user[LOG_QUOTE_MAX], mailbox[LOG_QUOTE_MAX], source[LOG_QUOTE_MAX];
        struct str set = STR_INIT;

        if (!is_on(imap) || uidset_empty(uids))
                return;
        uidset_append(uids, &set);
        if (set.len > UIDS_MAX) {
                str_truncate(&set, UIDS_MAX);
                str_append_str(&set, "…");
        }
        snprintf(name, sizeof name, "audit.%s", event);
        log_event(LOG_NOTE, imap->s->name, name, "user=%s mailbox=%s uniqueid=%s messages=%" PRIu64 " uids=%s%s%s",
                  log_quote_str(user, imap->userid), log_quote_str(mailbox, entry->name), entry->uniqueid, uidset_count(uids), set.data,
                  from ? " from=" : "", from ? log_quote_str(source, from) : "");
        str_deinit(&set);
}

void imap_audit_range(struct imap *imap, const char *event, const struct mbentry *entry, uint32_t first_uid, uint32_t count, const char *from)
{
        struct uidset uids = UIDSET_INIT;

        if (count)
                uidset_add_range(&uids, first_uid, first_uid + count - 1);
        imap_audit_messages(imap, event, entry, &uids, from);
        uidset_deinit(&uids);
}

void imap_audit_names(struct imap *imap)
{
        const struct imap_command *c = &imap->cmd;
        char name[64] = "audit.", user[LOG_QUOTE_MAX], mailbox[2][LOG_QUOTE_MAX];
        size_t n = strlen(name);

        if (!c->own_names[0] || !imap->userid || !is_on(imap))
                return;
        for (const char *p = c->cmd->name; *p && n + 1 < sizeof name; p++)
                name[n++] = (char)(*p | 0x20);
        name[n] = '\0';
        log_event(LOG_NOTE, imap->s->name, name, "user=%s mailbox=%s%s%s", log_quote_str(user, imap->userid),
                  log_quote_str(mailbox[0], c->own_names[0]), c->own_names[1] ? " to=" : "",
                  c->own_names[1] ? log_quote_str(mailbox[1], c->own_names[1]) : "");
}
