/*
 * autocreate - a user's first mailboxes, from the options autocreate_* (cyrus-files.md 8).
 *
 * The INBOX is made last: it is what says that all is done. When something stops half-way, the next login or delivery finds no INBOX
 * and goes on; what is there already is left as it is.
 */
#include <stdlib.h>
#include <string.h>

#include "store/acl.h"
#include "store/store_private.h"
#include "store/quota.h"
#include "store/user.h"
#include "util/array.h"
#include "util/charset.h"
#include "util/log.h"
#include "util/must.h"

#define FOLDERS_MAX 200

struct creating {
        struct store *store;
        struct conf *conf;
        const char *userid, *inbox;
        struct namer namer;
        struct arena arena;
};

/* The next piece of "a | b | c", without blanks around it. */
static bool next_folder(const char **pos, struct span *folder_r)
{
        while (*pos && **pos) {
                size_t len = strcspn(*pos, "|");

                *folder_r = span_trim((struct span){ *pos, len });
                *pos += len + ((*pos)[len] == '|');
                if (folder_r->len)
                        return true;
        }
        return false;
}

static bool list_has(const char *list, struct span folder)
{
        struct span one;

        while (next_folder(&list, &one))
                if (span_eq(one, folder))
                        return true;
        return false;
}

/* A name of the configuration, as the user would write it, in UTF-8 or modified UTF-7. `below_inbox`: the user's own folder. */
static const char *internal_name(struct creating *c, struct span folder, bool below_inbox)
{
        struct str external = STR_INIT;
        struct err err = ERR_INIT;
        const char *internal = NULL;
        char quoted[LOG_QUOTE_MAX];

        c->namer.utf8 = !mutf7_valid(folder);
        if (below_inbox && !namespace_is_alt(c->namer.ns))
                str_printf(&external, "INBOX%c", namespace_separator(c->namer.ns));
        else if (!below_inbox)
                namespace_prefix(&c->namer, NAMESPACE_SHARED, &external);
        str_append_span(&external, folder);
        if (mailname_internal(&c->namer, str_span(&external), &c->arena, &internal, &err) < 0 ||
            mailname_check_new(internal, false, &err) < 0) {
                log_event(LOG_WARN, NULL, "autocreate.name", "folder=%s reason=\"%s\"", log_quote(quoted, folder.p, folder.len),
                          err.text);
                internal = NULL;
        }
        str_deinit(&external);
        return internal;
}

/* "\Sent" of xlist-sent. */
static const char *use_of(struct creating *c, struct span folder)
{
        const char *name, *value;
        struct str uses = STR_INIT;
        const char *result;
        size_t pos = 0;

        while (conf_next(c->conf, "xlist-", &pos, &name, &value)) {
                const char *flag = strstr(name, "xlist-") + 6;

                if (!list_has(value, folder) || !*flag)
                        continue;
                str_printf(&uses, "%s\\%c%s", uses.len ? " " : "", ascii_upper(*flag), flag + 1);
        }
        result = arena_strdup(&c->arena, uses.data);
        str_deinit(&uses);
        return result;
}

/* "autocreate_acl: FOLDER IDENTIFIER RIGHTS": the last two words are identifier and rights. */
static bool split_acl(struct span value, struct span *folder_r, struct span *id_r, struct span *rights_r)
{
        struct span *words[] = { rights_r, id_r };

        for (size_t i = 0; i < 2; i++) {
                size_t start;

                value = span_trim(value);
                for (start = value.len; start > 0 && value.p[start - 1] != ' ' && value.p[start - 1] != '\t'; start--)
                        ;
                *words[i] = (struct span){ value.p + start, value.len - start };
                value.len = start;
        }
        *folder_r = span_trim(value);
        return folder_r->len && id_r->len && rights_r->len;
}

/* The owner's default with what the configuration adds for this folder ("INBOX" for the INBOX). */
static const char *acl_of(struct creating *c, struct span folder)
{
        struct str acl = STR_INIT, next = STR_INIT;
        const char *name, *value, *result;
        size_t pos = 0;

        acl_change("", c->userid, ACL_SET, ACL_ALL, &acl, NULL);
        while (conf_next(c->conf, "autocreate_acl", &pos, &name, &value)) {
                struct span for_folder, id, letters;
                uint32_t rights;
                struct err err = ERR_INIT;

                if (!split_acl(span_of(value), &for_folder, &id, &letters) || !span_eq(for_folder, folder))
                        continue;
                str_clear(&next);
                if (acl_parse_rights(letters, &rights, &err) < 0 ||
                    acl_change(acl.data, arena_strndup(&c->arena, id.p, id.len), ACL_SET, rights, &next, &err) < 0) {
                        log_event(LOG_WARN, NULL, "autocreate.acl", "reason=\"%s\"", err.text);
                } else {
                        struct str swap = acl;

                        acl = next;
                        next = swap;
                }
        }
        result = arena_strdup(&c->arena, acl.data);
        str_deinit(&acl);
        str_deinit(&next);
        return result;
}

static int create_one(struct creating *c, struct span folder, const char *internal, struct err *err)
{
        struct mbox_create what = { .name = internal, .acl = acl_of(c, folder), .specialuse = use_of(c, folder),
                                    .with_parents = true };
        struct err mine = ERR_INIT;

        if (mboxlist_create(store_mboxlist(c->store), &what, NULL, &mine) == 0 || mine.code == ERR_EXISTS)
                return 0;
        err_copy(err, &mine);
        return -1;
}

static int create_folders(struct creating *c, struct err *err)
{
        const char *list = conf_str(c->conf, NULL, "autocreate_inbox_folders");
        const char *subscribe = conf_str(c->conf, NULL, "autocreate_subscribe_folders");
        struct span folder;
        unsigned n = 0;

        while (next_folder(&list, &folder) && n++ < FOLDERS_MAX) {
                const char *internal = internal_name(c, folder, true);

                if (!internal)
                        continue;
                if (create_one(c, folder, internal, err) < 0 ||
                    (list_has(subscribe, folder) && sub_set(c->store, c->userid, internal, true, err) < 0))
                        return -1;
        }
        return 0;
}

static bool may_look_up(const struct creating *c, const struct mbentry *e)
{
        struct acl_identity who = { .userid = c->userid };

        return e && e->type == MBTYPE_NORMAL && (acl_rights(e->acl, &who) & ACL_LOOKUP);
}

static int subscribe_all_shared(struct creating *c, struct err *err)
{
        const char *deleted = conf_str(c->conf, NULL, "deletedprefix");
        const struct mbentry *found[64];
        struct str after = STR_INIT;
        unsigned n;
        int ret = 0;

        while (ret == 0 && (n = mboxlist_next(store_mboxlist(c->store), "", after.data, found, 64)) > 0) {
                str_clear(&after);
                str_append_str(&after, found[n - 1]->name);
                for (unsigned i = 0; i < n; i++) {
                        if (ret == 0 && !mailname_is_user(found[i]->name) && !mailname_is_deleted(found[i]->name, deleted) &&
                            may_look_up(c, found[i]))
                                ret = sub_set(c->store, c->userid, found[i]->name, true, err);
                        mbentry_unref(&found[i]);
                }
        }
        str_deinit(&after);
        return ret;
}

static int subscribe_shared(struct creating *c, struct err *err)
{
        const char *list = conf_str(c->conf, NULL, "autocreate_subscribe_sharedfolders");
        struct span folder;

        if (conf_switch(c->conf, NULL, "autocreate_subscribe_sharedfolders_all"))
                return subscribe_all_shared(c, err);
        while (next_folder(&list, &folder)) {
                const char *internal = internal_name(c, folder, false);
                const struct mbentry *e = internal ? mboxlist_find(store_mboxlist(c->store), internal) : NULL;
                int rc = may_look_up(c, e) ? sub_set(c->store, c->userid, internal, true, err) : 0;

                mbentry_unref(&e);
                if (rc < 0)
                        return -1;
        }
        return 0;
}

bool user_autocreate_wanted(struct store *store, const char *userid, enum autocreate_why why)
{
        struct conf *conf = store_conf(store);
        const char *users = conf_str(conf, NULL, "autocreate_users");
        struct arena arena = ARENA_INIT;
        const struct mbentry *inbox;
        bool wanted;

        if (conf_int(conf, NULL, "autocreate_quota") < 0 || store->readonly || store_is_fenced(store) || conf_switch(conf, NULL, "readonly"))
                return false;
        if (why == AUTOCREATE_POST && !conf_switch(conf, NULL, "autocreate_post"))
                return false;
        if (!userid || !*userid || strcmp(userid, "anonymous") == 0 || conf_words_have(conf_str(conf, NULL, "admins"), userid))
                return false;
        if (!conf_words_have(users, "anyone") && !conf_words_have(users, userid))
                return false;
        inbox = mboxlist_find(store_mboxlist(store), mailname_inbox_of(userid, &arena));
        wanted = !inbox || inbox->type == MBTYPE_INTERMEDIATE;
        mbentry_unref(&inbox);
        arena_deinit(&arena);
        return wanted;
}

/* Before the INBOX is there: a user without his limits is not to be found after a crash. */
static int set_quota(struct creating *c, struct err *err)
{
        int64_t limit[QUOTA_RESOURCES] = { [QUOTA_STORAGE] = conf_int(c->conf, NULL, "autocreate_quota"),
                                           [QUOTA_MESSAGE] = conf_int(c->conf, NULL, "autocreate_quota_messages") };
        bool which[QUOTA_RESOURCES] = { [QUOTA_STORAGE] = limit[QUOTA_STORAGE] > 0, [QUOTA_MESSAGE] = limit[QUOTA_MESSAGE] > 0 };

        if (!which[QUOTA_STORAGE] && !which[QUOTA_MESSAGE])
                return 0;
        return quota_set(c->store, c->inbox, limit, which, true, err);
}

int user_autocreate(struct store *store, const char *userid, enum autocreate_why why, struct err *err)
{
        struct creating c = { .store = store, .conf = store_conf(store), .userid = userid };
        char quoted[LOG_QUOTE_MAX];
        int ret = -1;

        if (!user_autocreate_wanted(store, userid, why))
                return 0;
        c.inbox = mailname_inbox_of(userid, &c.arena);
        c.namer = (struct namer){ .ns = store_namespace(store), .userid = userid };
        if (mailname_check_new(c.inbox, false, err) == 0 && set_quota(&c, err) == 0 && create_folders(&c, err) == 0 && subscribe_shared(&c, err) == 0 &&
            sub_set(store, userid, c.inbox, true, err) == 0 && create_one(&c, SPAN("INBOX"), c.inbox, err) == 0) {
                log_event(LOG_NOTE, NULL, "autocreate", "user=%s why=%s", log_quote_str(quoted, userid),
                          why == AUTOCREATE_POST ? "delivery" : "login");
                ret = 0;
        }
        arena_deinit(&c.arena);
        return ret;
}
