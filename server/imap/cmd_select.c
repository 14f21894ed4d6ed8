/* SELECT and EXAMINE (RFC 9051 6.3.2, 6.3.3; RFC 3501 6.3.1, 6.3.2; CONDSTORE parameter: RFC 7162 3.1.8) */
#include "server/imap/cmds.h"
#include "server/imap/imap_private.h"
#include "server/imap/selected.h"

#include <inttypes.h>

struct select_state {
        const struct mbentry *entry;            /* reference */
        struct imap_open open;
        uint32_t rights;
        bool examine;
};

static void cleanup(struct imap *imap)
{
        struct select_state *st = imap->cmd.state;

        imap_open_release(&st->open);
        mbentry_unref(&st->entry);
}

/* "(" param *(SP param) ")"; RFC 4466 2.1. QRESYNC (RFC 7162 3.2.5) will be read here. */
static bool parse_params(struct imap *imap, bool *condstore_r)
{
        struct imap_parser *ip = &imap->cmd.args;
        struct span word;

        *condstore_r = false;
        if (imap_at_end(ip))
                return true;
        if (imap_sp(ip) < 0 || imap_open_paren(ip) < 0)
                goto bad;
        do {
                if (imap_atom(ip, &word) < 0)
                        goto bad;
                if (!imap_word_is(word, "CONDSTORE")) {
                        imap_bad(imap, "Unknown parameter of SELECT");
                        return false;
                }
                *condstore_r = true;
        } while (imap_skip_c(ip, ' '));
        if (imap_close_paren(ip) < 0 || imap_end(ip) < 0)
                goto bad;
        return true;
bad:
        imap_bad(imap, "%s", ip->err.text);
        return false;
}

/* The former mailbox is closed whether or not the new one can be selected (RFC 9051 6.3.2). */
static void close_former(struct imap *imap)
{
        if (!imap->sel)
                return;
        imap_unselect(imap);
        imap_untagged(imap, "OK [CLOSED] Previous mailbox is now closed");
}

static void put_first_unseen(struct imap *imap, uint32_t uid)
{
        struct view *view = imap->sel->view;
        uint32_t seqno = uid ? view_seqno_from(view, uid) : 0;

        if (seqno > 0 && seqno <= view_count(view))
                imap_untagged(imap, "OK [UNSEEN %" PRIu32 "] First unseen message", seqno);
}

static enum cmd_result reply(struct imap *imap)
{
        struct imap_selected *sel = imap->sel;
        struct mailbox_status status;

        mailbox_status(sel->mbox, &status);
        imap_tell_keywords(imap, true);
        imap_untagged(imap, "%" PRIu32 " EXISTS", view_count(sel->view));
        if (!imap->rev2) {
                imap_untagged(imap, "%" PRIu64 " RECENT", uidset_count(&sel->recent));
                put_first_unseen(imap, status.first_unseen_uid);
        }
        imap_untagged(imap, "OK [UIDVALIDITY %" PRIu32 "] UIDs valid", status.uidvalidity);
        imap_untagged(imap, "OK [UIDNEXT %" PRIu32 "] Predicted next UID", view_uidnext(sel->view));
        imap_untagged(imap, "OK [HIGHESTMODSEQ %" PRIu64 "] Highest", sel->told_modseq);
        if (imap->rev2) {                                       /* RFC 9051 6.3.2 */
                char sep[2] = { namespace_separator(imap->ns), '\0' };

                imap_put(imap, "* LIST () \"%s\" ", sep);
                imap_put_mailbox(imap, sel->entry->name);
                imap_put(imap, "\r\n");
        }
        return imap_ok(imap, sel->readonly ? "READ-ONLY" : "READ-WRITE", "%s completed", sel->examined ? "EXAMINE" : "SELECT");
}

/* Parse, close the former mailbox, find the new one. False: the tagged reply was sent. */
static bool begin(struct imap *imap, bool examine)
{
        struct select_state *st = imap->cmd.state = ARENA_NEW(&imap->s->arena, struct select_state);
        const char *name;
        bool condstore;

        imap->cmd.cleanup = cleanup;
        st->examine = examine;
        if (imap_sp(&imap->cmd.args) < 0) {
                imap_bad(imap, "%s", imap->cmd.args.err.text);
                return false;
        }
        if (!imap_arg_mailbox(imap, &name)) {
                if (imap->loop->outcome == 'N')                 /* a name out of rule: the command failed, it was no syntax error */
                        close_former(imap);
                return false;
        }
        if (!parse_params(imap, &condstore))
                return false;
        close_former(imap);
        if (condstore)
                imap_enable_condstore(imap);
        st->entry = imap_find_mailbox(imap, name, ACL_READ, false, &st->rights);
        return st->entry != NULL;
}

enum cmd_result imap_select_command(struct imap *imap, bool examine)
{
        struct select_state *st;
        struct mailbox *mbox;
        struct err err = ERR_INIT;
        int opened;

        if (!imap->cmd.state && !begin(imap, examine))
                return CMD_DONE;
        st = imap->cmd.state;
        opened = imap_open_mailbox(imap, &st->open, st->entry, &mbox, &err);
        if (opened == 0)
                return CMD_WAIT;
        if (opened < 0)
                return imap_fail(imap, &err);
        imap_selected_begin(imap, mbox, st->entry, st->examine);
        st->entry = NULL;                                       /* handed over */
        return reply(imap);
}

enum cmd_result cmd_select(struct imap *imap)
{
        return imap_select_command(imap, false);
}
