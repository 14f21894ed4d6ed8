/*
 * mbox - what commands need of mailboxes: their names on the wire, rights, opening them without holding a worker.
 *
 * A mailbox that the user may not look up is answered exactly as one that does not exist, by the same path through the same list
 * in memory, so that neither words nor time tell them apart (RFC 4314 4, RFC 5530 3 NONEXISTENT).
 */
#include "server/imap/imap_private.h"
#include "util/must.h"

void imap_note_named(struct imap *imap, const char *internal)
{
        imap->cmd.named[imap->cmd.named[0] ? 1 : 0] = internal;
}

bool imap_arg_mailbox(struct imap *imap, const char **internal_r)
{
        struct namer who = imap_namer(imap);
        struct err err = ERR_INIT;
        struct span name;

        if (imap_astring(&imap->cmd.args, &name) < 0) {
                imap_bad(imap, "%s", imap->cmd.args.err.text);
                return false;
        }
        if (mailname_internal(&who, name, &imap->s->arena, internal_r, &err) < 0) {
                imap_fail(imap, &err);
                return false;
        }
        imap->cmd.given = name;
        imap_note_named(imap, *internal_r);
        imap->cmd.said_inbox |= imap_word_is(name, "INBOX");
        if (imap->is_admin && namespace_has_domains(imap->ns)) {
                imap->cmd.said = name;
                imap->cmd.said_internal = *internal_r;
        }
        return true;
}

/* ---- rights ---- */

uint32_t imap_rights(struct imap *imap, const struct mbentry *entry)
{
        struct acl_identity who = {
                .userid = imap->userid,
                .groups = (const char *const *)imap->groups,
                .is_admin = imap->is_admin,
                .is_owner = mailname_owned_by(entry->name, imap->userid),
                .owner_rights = imap->owner_rights,
        };

        return acl_rights(entry->acl, &who);
}

bool imap_name_hidden_from(struct imap *imap, const char *internal, const char *userid, bool is_admin)
{
        const char *prefix = conf_str(imap->conf, NULL, "deletedprefix");

        if (!mailname_in_domain_of(internal, userid) && (!is_admin || mailname_userid_has_domain(userid)))
                return true;
        if (prefix && mailname_is_deleted(internal, prefix))
                return !is_admin;
        if (is_admin || mailname_owned_by(internal, userid))
                return false;
        return conf_switch(imap->conf, NULL, mailname_is_user(internal) ? "disable_user_namespace" : "disable_shared_namespace");
}

bool imap_name_hidden(struct imap *imap, const char *internal)
{
        return imap_name_hidden_from(imap, internal, imap->userid, imap->is_admin);
}

bool imap_may_create(struct imap *imap, const char *internal)
{
        struct mboxlist *ml = store_mboxlist(imap->store);
        const struct mbentry *entry = NULL;
        uint32_t need = imap->cmd.cmd->needs.above;
        bool may;

        must(need);
        if (imap_name_hidden(imap, internal))
                return false;
        if (imap->is_admin) {                           /* top-level ones, users', and all below – of users that there are */
                const char *owner = mailname_owner(internal, &imap->s->arena);

                if (!owner || mailname_is_inbox(internal))
                        return true;
                entry = mboxlist_find(ml, mailname_inbox_of(owner, &imap->s->arena));
                may = entry && entry->type != MBTYPE_INTERMEDIATE;
                if (entry)
                        mbentry_unref(&entry);
                return may;
        }
        entry = mboxlist_find_above(ml, internal, &imap->s->arena);
        if (!entry)
                return false;
        may = (imap_rights(imap, entry) & need) == need;
        mbentry_unref(&entry);
        return may;
}

enum cmd_result imap_create_failed(struct imap *imap, const char *internal, const struct err *err)
{
        const struct mbentry *entry;
        uint32_t rights;

        if (err->code != ERR_EXISTS || imap->is_admin || mailname_owned_by(internal, imap->userid))
                return imap_fail(imap, err);
        entry = imap_look_up(imap, internal, &rights);
        if (entry)
                mbentry_unref(&entry);
        return rights & ACL_LOOKUP ? imap_fail(imap, err) : imap_no(imap, "NOPERM", "Permission denied");
}

const struct mbentry *imap_look_up(struct imap *imap, const char *internal, uint32_t *rights_r)
{
        const struct mbentry *entry = mboxlist_find(store_mboxlist(imap->store), internal);

        *rights_r = 0;
        if (!entry)
                return NULL;
        *rights_r = imap_name_hidden(imap, internal) || entry->type == MBTYPE_INTERMEDIATE || entry->type == MBTYPE_DELETED
                            ? 0 : imap_rights(imap, entry);
        if (!*rights_r)
                mbentry_unref(&entry);
        return entry;
}

bool imap_allows(const struct imap *imap, uint32_t rights)
{
        const struct imap_cmd *cmd = imap->cmd.cmd;

        if (imap->is_admin && (cmd->flags & CMD_ADMIN_EXEMPT))
                return true;
        return (rights & cmd->needs.named) == cmd->needs.named && (!cmd->needs.any || (rights & cmd->needs.any));
}

const char *imap_refusal(struct imap *imap, const char *internal, uint32_t rights, const char **text_r)
{
        *text_r = "Permission denied";
        if (rights & ACL_LOOKUP)
                return "NOPERM";
        *text_r = "Mailbox does not exist";
        return (imap->cmd.cmd->flags & CMD_TRYCREATE) && imap_may_create(imap, internal) ? "TRYCREATE" : "NONEXISTENT";
}

enum cmd_result imap_refuse_mailbox(struct imap *imap, const char *internal, uint32_t rights)
{
        const char *text, *code = imap_refusal(imap, internal, rights, &text);

        return imap_no(imap, code, "%s", text);
}

const struct mbentry *imap_find_mailbox(struct imap *imap, const char *internal, uint32_t *rights_r)
{
        uint32_t rights;
        const struct mbentry *entry = imap_look_up(imap, internal, &rights);

        if (rights_r)
                *rights_r = rights;
        if (!entry || !imap_allows(imap, rights))
                imap_refuse_mailbox(imap, internal, rights);
        else if (entry->type == MBTYPE_NORMAL)
                return entry;
        else
                imap_no(imap, "UNAVAILABLE", "The mailbox is on another server");
        if (entry)
                mbentry_unref(&entry);
        return NULL;
}

/* ---- waiting ---- */

enum cmd_result imap_offload(struct imap *imap, enum offload_queue queue, void (*fn)(void *arg), void *arg)
{
        must(!imap->cmd.waiting);
        imap->cmd.waiting = true;
        imap->loop->wait = &imap->cmd.offload.waiter;
        session_offload(imap->s, &imap->cmd.offload, queue, fn, arg);
        return CMD_WAIT;
}

struct waiter *imap_waiter(struct imap *imap)
{
        must(!imap->cmd.waiting);
        session_waiter(imap->s, &imap->cmd.waiter);
        imap->loop->wait = &imap->cmd.waiter;
        return &imap->cmd.waiter;
}

void imap_waiter_cancel(struct imap *imap)
{
        session_waiter_cancel(imap->s, &imap->cmd.waiter);
        imap->cmd.waiting = false;
        imap->loop->wait = NULL;
}

/* ---- opening ---- */

void imap_open_job(void *arg)
{
        struct imap_open *open = arg;

        open->rc = mailbox_open(open->store, &open->ident, &open->mbox, &open->err);
}

void imap_open_release(struct imap_open *open)
{
        if (open->mbox)
                mailbox_unref(&open->mbox);
        if (open->entry)
                mbentry_unref(&open->entry);
        open->started = false;
}

int imap_open_mailbox(struct imap *imap, struct imap_open *open, const struct mbentry *entry, struct mailbox **mbox_r, struct err *err)
{
        int rc;

        if (open->started) {
                rc = open->rc;
                *mbox_r = open->mbox;
                open->mbox = NULL;
                if (rc < 0)
                        err_copy(err, &open->err);
                imap_open_release(open);
                return rc < 0 ? -1 : 1;
        }
        memset(open, 0, sizeof *open);
        if (mbentry_ident(imap->store, entry, &open->ident, err) < 0)
                return -1;
        *mbox_r = mailbox_find_open(imap->store, open->ident.uniqueid);
        if (*mbox_r)
                return 1;
        open->entry = mbentry_ref(entry);               /* the ident borrows from it */
        open->store = imap->store;
        open->started = true;
        imap_offload(imap, OFFLOAD_DISK, imap_open_job, open);
        return 0;
}
