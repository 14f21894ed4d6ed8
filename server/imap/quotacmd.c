/* quotacmd - see quotacmd.h */
#include "server/imap/quotacmd.h"

#include <inttypes.h>

#include "server/imap/imap_private.h"

bool imap_quota_ignored(const struct imap *imap)
{
        return service_params(imap->s->service)->no_quota;
}

static void settle_job(void *arg)
{
        struct quota_wait *wait = arg;

        quota_settle(wait->store, wait->root, &wait->err);
}

int imap_quota_settle(struct imap *imap, struct quota_wait *wait, const char *root)
{
        struct quota_info info;

        if (wait->started) {
                wait->started = false;
                if (wait->err.code == ERR_NONE || wait->err.code == ERR_NOTFOUND)
                        return 1;
                imap_fail(imap, &wait->err);
                return -1;
        }
        if (!quota_get(imap->store, root, &info) || !info.unsure)
                return 1;
        *wait = (struct quota_wait){ .started = true, .store = imap->store, .root = root };
        imap_offload(imap, OFFLOAD_DISK, settle_job, wait);
        return 0;
}

void imap_quota_put(struct imap *imap, const char *root)
{
        struct quota_info info;
        const char *space = "";

        if (!quota_get(imap->store, root, &info))
                return;
        imap_put(imap, "* QUOTA ");
        imap_put_mailbox(imap, root);
        imap_put(imap, " (");
        for (int i = 0; i < QUOTA_RESOURCES; i++) {
                enum quota_resource r = (enum quota_resource)i;

                if (info.limit[i] < 0)
                        continue;
                imap_put(imap, "%s%s %" PRId64 " %" PRId64, space,
                         imap->cyrus_quota_names ? quota_resource_cyrus_name(r) : quota_resource_name(r), quota_used_units(&info, r),
                         info.limit[i]);
                space = " ";
        }
        imap_put(imap, ")\r\n");
}

/* In units. Whether so much of a limit is used up that the user should hear of it: from `quotawarn` percent on, and with `near` (0: no
 * matter) only when less than that is left of a limit that is larger than it. */
static bool worth_a_warning(int64_t used, int64_t limit, int64_t percent, int64_t near)
{
        if (percent < 0 || (limit > 0 && used / (limit / 100.0) < (double)percent))
                return false;
        return near <= 0 || limit < near || limit - used < near;
}

void imap_quota_warn(struct imap *imap, const char *mailbox)
{
        const char *service = imap_service(imap);
        int64_t percent = conf_int(imap->conf, service, "quotawarn");
        struct str root = STR_INIT;
        struct quota_info info;

        if (quota_root_of(imap->store, mailbox, &root) && quota_get(imap->store, root.data, &info)) {
                for (int i = 0; i < QUOTA_RESOURCES; i++) {
                        enum quota_resource r = (enum quota_resource)i;
                        int64_t used = quota_used_units(&info, r), limit = info.limit[i];
                        int64_t near = conf_int(imap->conf, service, r == QUOTA_MESSAGE ? "quotawarnmsg" : "quotawarnkb");

                        if (limit < 0 || r == QUOTA_MAILBOX)
                                continue;
                        if (used > limit || (used == limit && limit == 0))
                                imap_untagged(imap, "NO [OVERQUOTA] Mailbox is over %s quota", quota_resource_name(r));
                        else if (worth_a_warning(used, limit, percent, near))
                                imap_untagged(imap, "NO [ALERT] Mailbox is at %d%% of %s quota", (int)(used / (limit / 100.0)),
                                              quota_resource_name(r));
                }
        }
        str_deinit(&root);
}
