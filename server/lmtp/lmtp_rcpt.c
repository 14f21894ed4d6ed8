/*
 * lmtp_rcpt - RCPT: which mailbox is this?
 *   joe@example.org           joe's INBOX
 *   joe+Lists.foo@…           joe's folder Lists.foo when it exists and anyone may post to it (right p), else INBOX
 *   +shared.box@…, postuser+shared.box@…   a shared mailbox that anyone may post to
 * Unknown users: autocreate_post, lmtp_catchall_mailbox, else 550. The look-up itself is in memory; only making a mailbox leaves the
 * worker.
 */
#include <stdlib.h>

#include "server/lmtp/lmtp_private.h"
#include "store/quota.h"
#include "util/log.h"
#include "util/must.h"

static bool anyone_may_post(struct lmtp *l, const struct mbentry *e)
{
        const struct acl_identity nobody = { .userid = "anonymous" };

        (void)l;
        return acl_rights(e->acl, &nobody) & ACL_POST;
}

/* A local, real mailbox; else NULL. */
static const struct mbentry *find_normal(const char *internal)
{
        const struct mbentry *e = mboxlist_find(store_mboxlist(engine_store()), internal);

        if (e && e->type != MBTYPE_NORMAL)
                mbentry_unref(&e);
        return e;
}

static const struct mbentry *find_detail(struct lmtp *l, const char *userid, struct span detail)
{
        const char *excluded = conf_str(l->conf, service_name(l->s->service), "lmtp_exclude_specialuse");
        struct namer namer = { .ns = l->ns, .userid = userid, .utf8 = l->utf8 };
        const char *internal;
        const struct mbentry *e;
        struct str name = STR_INIT;
        struct err err = ERR_INIT;

        if (!conf_switch(l->conf, NULL, "altnamespace"))
                str_printf(&name, "INBOX%c", namespace_separator(l->ns));
        str_append_span(&name, detail);
        if (mailname_internal(&namer, str_span(&name), &l->s->arena, &internal, &err) < 0)
                internal = NULL;
        str_deinit(&name);
        if (!internal || !mailname_owned_by(internal, userid))
                return NULL;
        e = find_normal(internal);
        if (e && (!anyone_may_post(l, e) || (e->specialuse[0] && conf_words_have(excluded, e->specialuse))))
                mbentry_unref(&e);
        return e;
}

static const struct mbentry *find_shared(struct lmtp *l, struct span name)
{
        struct namer namer = { .ns = l->ns, .userid = "anonymous", .is_admin = true, .utf8 = l->utf8 };
        const struct mbentry *e;
        const char *internal, *deleted = conf_str(l->conf, NULL, "deletedprefix");
        struct err err = ERR_INIT;

        if (mailname_internal(&namer, name, &l->s->arena, &internal, &err) < 0 || mailname_is_user(internal) ||
            (deleted && mailname_is_deleted(internal, deleted)))
                return NULL;
        e = find_normal(internal);
        if (e && !anyone_may_post(l, e))
                mbentry_unref(&e);
        return e;
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

/* The present user and detail: accepted, or NULL entry. */
static const struct mbentry *find_user(struct lmtp *l)
{
        const struct mbentry *inbox = find_normal(mailname_inbox_of(l->lookup.userid, &l->s->arena));

        if (inbox && l->lookup.detail.len) {
                const struct mbentry *e = find_detail(l, l->lookup.userid, l->lookup.detail);

                if (e) {
                        mbentry_unref(&inbox);
                        return e;
                }
        }
        return inbox;
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
        lmtp_reply(l, "550 5.1.1 Unknown user");
}

static void autocreate(void *arg)
{
        struct lmtp *l = arg;

        l->lookup.rc = user_autocreate(engine_store(), l->lookup.userid, AUTOCREATE_POST, &l->lookup.err);
}

static void autocreated(struct lmtp *l)
{
        const struct mbentry *e;
        char quoted[2][LOG_QUOTE_MAX];

        if (l->lookup.rc < 0) {
                log_event(LOG_ERROR, l->s->name, "lmtp.autocreate", "user=%s reason=%s", log_quote_str(quoted[0], l->lookup.userid),
                          log_quote_str(quoted[1], l->lookup.err.text));
                lmtp_reply(l, "451 4.3.0 Cannot make the mailbox now");
                return;
        }
        e = find_user(l);
        if (e)
                accept_rcpt(l, l->lookup.address, e);
        else
                unknown_user(l);
}

static void find_by_local(struct lmtp *l, struct span local, struct span domain)
{
        const char *postuser = conf_str(l->conf, NULL, "postuser");
        size_t plus = span_index(local, '+');
        struct span user = { local.p, plus };
        struct str given = STR_INIT;
        const struct mbentry *e = NULL;
        struct err err = ERR_INIT;
        int rc;

        l->lookup.detail = plus < local.len ? (struct span){ local.p + plus + 1, local.len - plus - 1 } : (struct span){ "", 0 };
        if (l->lookup.detail.len && span_ieq_str(user, postuser ? postuser : "")) {
                e = find_shared(l, l->lookup.detail);
                if (e)
                        accept_rcpt(l, l->lookup.address, e);
                else
                        lmtp_reply(l, "550 5.1.1 Unknown mailbox");
                return;
        }
        if (user.len == 0 || memchr(user.p, '\0', user.len)) {
                lmtp_reply(l, "550 5.1.1 Unknown user");
                return;
        }
        str_append_span(&given, user);
        if (domain.len && strcmp(conf_enum(l->conf, NULL, "virtdomains"), "off") != 0) {
                str_append_c(&given, '@');
                str_append_span(&given, domain);
        }
        rc = user_canonify(engine_store(), given.data, &l->s->arena, &l->lookup.userid, &err);
        str_deinit(&given);
        if (rc == 0)
                e = find_user(l);
        if (e) {
                accept_rcpt(l, l->lookup.address, e);
        } else if (rc == 0 && user_autocreate_wanted(engine_store(), l->lookup.userid, AUTOCREATE_POST)) {
                err_clear(&l->lookup.err);
                lmtp_offload(l, OFFLOAD_DB, autocreate, autocreated);
        } else {
                unknown_user(l);
        }
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
        if (lmtp_path_parse(args, l->utf8, false, &l->s->arena, &path, &rest, &err) < 0) {
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
