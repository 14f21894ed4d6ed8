/* ops_quota - quota roots: listing, setting, adding up again. */
#include <inttypes.h>
#include <string.h>

#include "server/control/ops.h"
#include "store/mailname.h"
#include "store/quota.h"
#include "store/user.h"
#include "util/log.h"

/* ---- rows ---- */

static void resource_row(struct ctl_call *call, const char *root, const struct quota_info *info, enum quota_resource r)
{
        int64_t limit = info->limit[r], used = quota_used_units(info, r);
        json_t *row = json_pack("{s:o, s:s, s:s, s:I, s:I}", "root", ctl_mailbox_json(call, root), "resource", quota_resource_name(r),
                                "cyrus", quota_resource_cyrus_name(r), "used", (json_int_t)used, "exact", (json_int_t)info->used[r]);

        if (limit >= 0) {
                json_object_set_new(row, "limit", json_integer((json_int_t)limit));
                json_object_set_new(row, "unit", json_integer((json_int_t)quota_unit(r)));
                if (limit > 0)
                        json_object_set_new(row, "percent", json_integer((json_int_t)(info->used[r] / quota_unit(r) * 100 / limit)));
        }
        call->row(call, row);
}

static void root_rows(struct ctl_call *call, const char *root, const struct quota_info *info)
{
        bool all = ctl_arg_bool(call, "all");

        for (int r = 0; r < QUOTA_RESOURCES; r++)
                if (all || info->limit[r] >= 0)
                        resource_row(call, root, info, (enum quota_resource)r);
}

static void fixed_rows(struct ctl_call *call, const char *root, const struct quota_info *before, const struct quota_info *after)
{
        for (int r = 0; r < QUOTA_RESOURCES; r++) {
                if (before->used[r] == after->used[r])
                        continue;
                call->row(call, json_pack("{s:s, s:o, s:s, s:s, s:I, s:I}", "kind", "fixed", "root", ctl_mailbox_json(call, root), "resource",
                                          quota_resource_name((enum quota_resource)r), "cyrus",
                                          quota_resource_cyrus_name((enum quota_resource)r), "was", (json_int_t)before->used[r], "now",
                                          (json_int_t)after->used[r]));
                log_event(LOG_WARN, NULL, "quota.fixed", "root=%s resource=%s was=%" PRId64 " now=%" PRId64, root,
                          quota_resource_name((enum quota_resource)r), before->used[r], after->used[r]);
        }
}

/* ---- which roots ---- */

/* The argument is a mailbox name; with `user` a user id; with `prefix` whatever begins with it, as Cyrus's quota has it. */
static int chosen(struct ctl_call *call, struct arena *arena, const char ***roots_r, size_t *n_r, struct err *err)
{
        const char *root = ctl_arg(call, "root"), *domain = ctl_arg(call, "domain"), *userid;
        char internal[512] = "";
        const char **roots;
        size_t n, kept = 0;

        if (root && ctl_arg_bool(call, "user")) {
                if (user_canonify(call->store, root, arena, &userid, err) < 0)
                        return -1;
                snprintf(internal, sizeof internal, "%s", mailname_inbox_of(userid, arena));
        } else if (root && *root && ctl_arg_mailbox(call, "root", internal, err) < 0) {
                return -1;
        }
        n = quota_list(call->store, ctl_arg_bool(call, "prefix") ? "" : internal, arena, &roots);
        for (size_t i = 0; i < n; i++) {
                if (ctl_arg_bool(call, "prefix") && strncmp(roots[i], internal, strlen(internal)) != 0)
                        continue;
                if (domain && (strncmp(roots[i], domain, strlen(domain)) != 0 || roots[i][strlen(domain)] != '!'))
                        continue;
                roots[kept++] = roots[i];
        }
        *roots_r = roots;
        *n_r = kept;
        return 0;
}

/* ---- operations ---- */

static int list_one(struct ctl_call *call, const char *root, struct err *err)
{
        struct quota_info before, after;
        bool removed, fix = ctl_arg_bool(call, "fix");

        if (fix && quota_fix(call->store, root, ctl_arg_bool(call, "dry"), &before, &after, &removed, err) < 0)
                return err->code == ERR_NOTFOUND ? 0 : -1;
        if (fix && removed) {
                call->row(call, json_pack("{s:s, s:o}", "kind", "removed", "root", ctl_mailbox_json(call, root)));
                log_event(LOG_NOTE, NULL, "quota.removed", "root=%s", root);
                return 0;
        }
        if (fix && !before.unsure)                      /* that it had yet to be added up is no mistake */
                fixed_rows(call, root, &before, &after);
        else if (!fix && quota_get(call->store, root, &after) && after.unsure && quota_settle(call->store, root, err) < 0)
                return err->code == ERR_NOTFOUND ? 0 : -1;
        if (!ctl_arg_bool(call, "quiet") && quota_get(call->store, root, &after))
                root_rows(call, root, &after);
        return 0;
}

int ctl_quota_list(struct ctl_call *call, struct err *err)
{
        struct arena arena = ARENA_INIT;
        const char **roots;
        size_t n = 0;
        int rc = chosen(call, &arena, &roots, &n, err);

        for (size_t i = 0; rc == 0 && i < n && !call->cancelled(call); i++) {
                err_clear(err);
                rc = list_one(call, roots[i], err);
                call->progress(call, i + 1, n, "quota roots");
        }
        arena_deinit(&arena);
        return rc;
}

int ctl_quota_fix(struct ctl_call *call, struct err *err)
{
        json_object_set_new(call->args, "fix", json_true());
        json_object_set_new(call->args, "quiet", json_true());
        return ctl_quota_list(call, err);
}

/* "100", "none", or with a unit: 10M, 2G (KiB without one, for storage). */
static int parse_limit(const char *text, enum quota_resource r, int64_t *limit_r, struct err *err)
{
        static const char suffixes[] = "KMGT";
        size_t len = strlen(text);
        const char *suffix = len ? strchr(suffixes, text[len - 1] & ~0x20) : NULL;
        uint64_t n;

        *limit_r = QUOTA_UNLIMITED;
        if (strcmp(text, "none") == 0)
                return 0;
        if (quota_unit(r) == 1 || !suffix || !*suffix)
                suffix = NULL;
        else
                len--;
        if (!span_u64((struct span){ text, len }, QUOTA_LIMIT_MAX, &n))
                return err_set(err, ERR_SYNTAX, "%s: \"%s\" is not a limit: a number%s, or none", quota_resource_name(r), text,
                               quota_unit(r) == 1 ? "" : " of KiB (or with K, M, G, T behind it)");
        for (const char *p = suffixes; suffix && p < suffix; p++)
                if (__builtin_mul_overflow(n, (uint64_t)1024, &n) || n > (uint64_t)QUOTA_LIMIT_MAX)
                        return err_set(err, ERR_LIMIT, "%s: the largest limit is %" PRId64 " KiB", quota_resource_name(r), QUOTA_LIMIT_MAX);
        *limit_r = (int64_t)n;
        return 0;
}

int ctl_quota_set(struct ctl_call *call, struct err *err)
{
        static const char *const keys[QUOTA_RESOURCES] = { "storage", "messages", "annotations", "mailboxes" };
        int64_t limit[QUOTA_RESOURCES];
        bool which[QUOTA_RESOURCES] = { false }, any = false;
        struct quota_info info;
        char root[512];

        if (ctl_arg_mailbox(call, "root", root, err) < 0)
                return -1;
        for (int r = 0; r < QUOTA_RESOURCES; r++) {
                const char *text = ctl_arg(call, keys[r]);

                which[r] = text != NULL;
                any |= which[r];
                if (text && parse_limit(text, (enum quota_resource)r, &limit[r], err) < 0)
                        return -1;
        }
        if (!any)
                return err_set(err, ERR_SYNTAX, "which limit is to be set?");
        if (quota_set(call->store, root, limit, which, false, err) < 0)
                return -1;
        if (quota_get(call->store, root, &info))
                root_rows(call, root, &info);
        return 0;
}

int ctl_quota_delete(struct ctl_call *call, struct err *err)
{
        char root[512];

        return ctl_arg_mailbox(call, "root", root, err) < 0 ? -1 : quota_remove(call->store, root, err);
}
