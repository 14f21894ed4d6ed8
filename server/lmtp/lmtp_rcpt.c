/*
 * lmtp_rcpt - RCPT: which mailbox is this?
 *   joe@example.org           joe's INBOX
 *   joe+Lists.foo@…           joe's folder Lists.foo when it exists and the sender may post to it (right p), else INBOX;
 *                             with lmtp_fuzzy_mailbox_match the nearest one there is
 *   +shared.box@…, postuser+shared.box@…   any mailbox that the sender may post to, by the name that administrators use
 * With virtdomains the domain is that of the user, or of the mailbox. The sender is who MAIL's AUTH= names; otherwise it is anyone that may.
 * Unknown users: autocreate_post, lmtp_catchall_mailbox, else 550. The look-up itself is in memory; only making a mailbox, and a fuzzy
 * match, leave the worker.
 */
#include <stdlib.h>

#include "server/lmtp/lmtp_private.h"
#include "store/quota.h"
#include "util/array.h"
#include "util/log.h"
#include "util/must.h"

static uint32_t sender_rights(struct lmtp *l, const struct mbentry *e)
{
        const struct acl_identity who = {
                .userid = l->sender ? l->sender : "anonymous",
                .groups = (const char *const *)l->sender_groups,
                .is_owner = l->sender && mailname_owned_by(e->name, l->sender),
                .owner_rights = acl_implicit_owner(l->conf),
        };

        return acl_rights(e->acl, &who);
}

/* A local, real mailbox; else NULL. */
static const struct mbentry *find_normal(const char *internal)
{
        const struct mbentry *e = mboxlist_find(store_mboxlist(engine_store()), internal);

        if (e && e->type != MBTYPE_NORMAL)
                mbentry_unref(&e);
        return e;
}

/* What the detail names, if it can be the name of a folder: whether there is one or not. In the arena. */
static const char *detail_name(struct lmtp *l, const char *userid, struct span detail)
{
        struct namer namer = { .ns = l->ns, .userid = userid, .utf8 = l->utf8 };
        char sep = namespace_separator(l->ns);
        const char *internal;
        struct str name = STR_INIT;
        struct err err = ERR_INIT;

        while (detail.len && detail.p[0] == sep) {
                detail.p++;
                detail.len--;
        }
        while (detail.len && detail.p[detail.len - 1] == sep)
                detail.len--;
        if (!conf_switch(l->conf, NULL, "altnamespace"))
                str_printf(&name, "INBOX%c", sep);
        str_append_span(&name, detail);
        if (detail.len == 0 || mailname_internal(&namer, str_span(&name), &l->s->arena, &internal, &err) < 0 ||
            !mailname_owned_by(internal, userid))
                internal = NULL;
        str_deinit(&name);
        return internal;
}

static bool may_have_it(struct lmtp *l, const struct mbentry *e)
{
        const char *excluded = conf_str(l->conf, service_name(l->s->service), "lmtp_exclude_specialuse");

        return (sender_rights(l, e) & ACL_POST) && !(e->specialuse[0] && conf_words_have(excluded, e->specialuse));
}

/* The domain behind a shared mailbox's name: as administrators write it. */
static void append_domain(struct lmtp *l, struct span domain, struct str *name)
{
        if (domain.len == 0 || strcmp(conf_enum(l->conf, NULL, "virtdomains"), "off") == 0)
                return;
        str_append_c(name, '@');
        str_append_span(name, domain);
}

static void find_shared(struct lmtp *l, struct span box, struct span domain, const struct mbentry **e_r)
{
        struct namer namer = { .ns = l->ns, .userid = "anonymous", .is_admin = true, .utf8 = l->utf8 };
        const char *internal, *deleted = conf_str(l->conf, NULL, "deletedprefix");
        struct str name = STR_INIT;
        struct err err = ERR_INIT;

        *e_r = NULL;
        str_append_span(&name, box);
        append_domain(l, domain, &name);
        if (mailname_internal(&namer, str_span(&name), &l->s->arena, &internal, &err) == 0 &&
            !(deleted && mailname_is_deleted(internal, deleted)))
                *e_r = find_normal(internal);
        str_deinit(&name);
}

/* With lmtp_strict_quota the message has to fit; otherwise it is the one that may go beyond the limit, unless that is reached already. */
static bool over_quota(struct lmtp *l, const struct mbentry *e)
{
        bool strict = conf_switch(l->conf, service_name(l->s->service), "lmtp_strict_quota");
        struct err err = ERR_INIT;

        return quota_check(engine_store(), e->name, strict ? (int64_t)l->announced : 0, strict, &err) < 0;
}

/* Add a recipient; takes the entry's reference over. */
static void accept_rcpt(struct lmtp *l, const char *address, const struct mbentry *e)
{
        struct lmtp_rcpt *r;
        int same = -1;

        if (!l->lookup.ignore_quota && over_quota(l, e)) {
                char quoted[2][LOG_QUOTE_MAX];

                log_event(LOG_NOTE, l->s->name, "lmtp.overquota", "to=%s mailbox=%s", log_quote_str(quoted[0], address),
                          log_quote_str(quoted[1], e->name));
                mbentry_unref(&e);
                lmtp_reply(l, "%s", lmtp_over_quota(l));
                return;
        }
        for (unsigned i = 0; i < l->rcpts_n && same < 0; i++)
                if (strcmp(l->rcpts[i].mailbox, e->name) == 0)
                        same = l->rcpts[i].same_as >= 0 ? l->rcpts[i].same_as : (int)i;
        if (l->rcpts_n == l->rcpts_cap) {
                l->rcpts_cap = l->rcpts_cap ? l->rcpts_cap * 2 : 4;
                l->rcpts = xrealloc(l->rcpts, l->rcpts_cap * sizeof *l->rcpts);
        }
        r = &l->rcpts[l->rcpts_n++];
        memset(r, 0, sizeof *r);
        r->address = xstrdup(address);
        r->mailbox = xstrdup(e->name);
        r->entry = e;
        r->same_as = same;
        r->ignore_quota = l->lookup.ignore_quota;
        lmtp_reply(l, "250 2.1.5 Ok");
}

/* ---- lmtp_fuzzy_mailbox_match ---- */

/* Is `name` (relative) the wanted one or above it, if case does not matter and '_' may stand for a blank? */
static bool is_near(const char *name, const char *wanted)
{
        for (; *name; name++, wanted++)
                if (ascii_lower(*name) != ascii_lower(*wanted) && !(*name == ' ' && *wanted == '_'))
                        return false;
        return *wanted == '\0' || *wanted == '.';
}

/*
 * The longest name that is near; the first in order of several. On a thread that may block, for a user may have very many mailboxes; what is
 * below a name that is not near cannot be near, and is skipped.
 */
static void find_near(void *arg)
{
        struct lmtp *l = arg;
        const char *root = l->lookup.inbox->name;
        size_t skip = strlen(root) + 1, best = 0;
        struct str after = STR_INIT;
        const struct mbentry *e;

        str_append_str(&after, root);
        while (mboxlist_next(store_mboxlist(engine_store()), root, after.data, &e, 1)) {
                size_t len = strlen(e->name);
                bool near = is_near(e->name + skip, l->lookup.wanted + skip);

                str_clear(&after);
                str_append_str(&after, e->name);
                if (!near)
                        str_append_str(&after, ".\xff");
                if (near && e->type == MBTYPE_NORMAL && len > best) {
                        if (l->lookup.found)
                                mbentry_unref(&l->lookup.found);
                        l->lookup.found = e;
                        best = len;
                } else {
                        mbentry_unref(&e);
                }
        }
        str_deinit(&after);
}

static void accept_user(struct lmtp *l, const struct mbentry *inbox, const struct mbentry *folder)
{
        if (folder && !may_have_it(l, folder))
                mbentry_unref(&folder);
        if (folder)
                mbentry_unref(&inbox);
        accept_rcpt(l, l->lookup.address, folder ? folder : inbox);
}

static void found_near(struct lmtp *l)
{
        const struct mbentry *inbox = l->lookup.inbox, *folder = l->lookup.found;

        l->lookup.inbox = l->lookup.found = NULL;
        accept_user(l, inbox, folder);
}

/* ---- users ---- */

/* The present user and detail. False: there is no such user. */
static bool take_user(struct lmtp *l)
{
        const struct mbentry *inbox = find_normal(mailname_inbox_of(l->lookup.userid, &l->s->arena)), *folder = NULL;
        const char *wanted = inbox && l->lookup.detail.len ? detail_name(l, l->lookup.userid, l->lookup.detail) : NULL;

        if (!inbox)
                return false;
        if (wanted)
                folder = find_normal(wanted);
        if (wanted && !folder && conf_switch(l->conf, service_name(l->s->service), "lmtp_fuzzy_mailbox_match")) {
                l->lookup.inbox = inbox;
                l->lookup.wanted = wanted;
                lmtp_offload(l, OFFLOAD_DB, find_near, found_near);
        } else {
                accept_user(l, inbox, folder);
        }
        return true;
}

static void unknown_user(struct lmtp *l)
{
        const char *catchall = conf_str(l->conf, service_name(l->s->service), "lmtp_catchall_mailbox");
        struct err err = ERR_INIT;
        const struct mbentry *e = NULL;
        const char *userid;

        if (catchall && user_canonify(engine_store(), catchall, &l->s->arena, &userid, &err) == 0)
                e = find_normal(mailname_inbox_of(userid, &l->s->arena));
        if (e) {
                accept_rcpt(l, l->lookup.address, e);
                return;
        }
        lmtp_reply(l, "550 5.1.1 User unknown");
}

static void autocreate(void *arg)
{
        struct lmtp *l = arg;

        l->lookup.rc = user_autocreate(engine_store(), l->lookup.userid, AUTOCREATE_POST, &l->lookup.err);
}

static void autocreated(struct lmtp *l)
{
        char quoted[2][LOG_QUOTE_MAX];

        if (l->lookup.rc < 0) {
                log_event(LOG_ERROR, l->s->name, "lmtp.autocreate", "user=%s reason=%s", log_quote_str(quoted[0], l->lookup.userid),
                          log_quote_str(quoted[1], l->lookup.err.text));
                lmtp_reply(l, "451 4.3.0 Cannot make the mailbox now");
                return;
        }
        if (!take_user(l))
                unknown_user(l);
}

/* ---- addresses ---- */

/* A mailbox that the sender may not even look up is not told from one that does not exist. */
static void by_mailbox(struct lmtp *l, struct span box, struct span domain)
{
        const struct mbentry *e;
        uint32_t rights;

        find_shared(l, box, domain, &e);
        rights = e ? sender_rights(l, e) : 0;
        if (rights & ACL_POST) {
                accept_rcpt(l, l->lookup.address, e);
                return;
        }
        if (e)
                mbentry_unref(&e);
        lmtp_reply(l, rights & ACL_LOOKUP ? "550 5.7.1 Permission denied" : "550 5.1.1 Mailbox unknown");
}

static void by_user(struct lmtp *l, struct span user, struct span domain)
{
        struct str given = STR_INIT;
        struct err err = ERR_INIT;
        int rc;

        str_append_span(&given, user);
        if (domain.len && strcmp(conf_enum(l->conf, NULL, "virtdomains"), "off") != 0) {
                str_append_c(&given, '@');
                str_append_span(&given, domain);
        }
        rc = user_canonify(engine_store(), given.data, &l->s->arena, &l->lookup.userid, &err);
        str_deinit(&given);
        if (rc == 0 && take_user(l))
                return;
        if (rc == 0 && user_autocreate_wanted(engine_store(), l->lookup.userid, AUTOCREATE_POST)) {
                err_clear(&l->lookup.err);
                lmtp_offload(l, OFFLOAD_DB, autocreate, autocreated);
        } else {
                unknown_user(l);
        }
}

static void find_by_local(struct lmtp *l, struct span local, struct span domain)
{
        const char *postuser = conf_str(l->conf, service_name(l->s->service), "postuser");
        size_t plus = span_index(local, '+');
        struct span user = { local.p, plus };

        l->lookup.detail = plus < local.len ? (struct span){ local.p + plus + 1, local.len - plus - 1 } : (struct span){ "", 0 };
        if (memchr(local.p, '\0', local.len))
                lmtp_reply(l, "550 5.1.1 User unknown");
        else if (l->lookup.detail.len && span_ieq_str(user, postuser ? postuser : ""))
                by_mailbox(l, l->lookup.detail, domain);
        else if (user.len == 0)
                lmtp_reply(l, "550 5.1.1 User unknown");
        else
                by_user(l, user, domain);
}

void lmtp_cmd_rcpt(struct lmtp *l, struct span args)
{
        struct lmtp_path path;
        struct lmtp_params params;
        struct span rest, local;
        struct err err = ERR_INIT;

        if (!l->have_from) {
                lmtp_reply(l, "503 5.5.1 MAIL first");
                return;
        }
        if (!span_istarts(args, "TO:")) {
                lmtp_reply(l, "501 5.5.4 Say RCPT TO:<address>");
                return;
        }
        args.p += 3;
        args.len -= 3;
        if (lmtp_path_parse(args, l->utf8 ? LMTP_8BIT_UTF8 : lmtp_plain_8bit(l), false, &l->s->arena, &path, &rest, &err) < 0) {
                lmtp_reply(l, "501 5.1.3 Bad recipient: %s", err.text);
                return;
        }
        if (lmtp_params_parse(rest, true, &params, &err) < 0) {
                lmtp_reply(l, "%s 5.5.4 %s", err.code == ERR_UNSUPPORTED ? "555" : "501", err.text);
                return;
        }
        if (l->rcpts_n >= LMTP_RCPT_MAX) {
                lmtp_reply(l, "452 4.5.3 Too many recipients");
                return;
        }
        local = arena_span(&l->s->arena, path.local);
        if (conf_switch(l->conf, service_name(l->s->service), "lmtp_downcase_rcpt"))
                for (size_t i = 0; i < local.len && local.p[i] != '+'; i++)
                        ((char *)local.p)[i] = ascii_lower(local.p[i]);
        memset(&l->lookup, 0, sizeof l->lookup);
        l->lookup.ignore_quota = params.ignorequota;
        l->lookup.address = arena_strndup(&l->s->arena, path.text.p, path.text.len);
        find_by_local(l, local, path.domain);
}
