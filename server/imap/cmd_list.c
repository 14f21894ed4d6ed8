/* LIST [(selection)] reference patterns [RETURN (options)] (RFC 9051 6.3.9) */
#include "server/imap/imap_private.h"
#include "server/imap/list.h"
#include "server/imap/list_args.h"
#include "server/imap/status.h"

static bool begin(struct imap *imap)
{
        struct list *l = list_create(imap, false);
        struct err err = ERR_INIT;

        if (!list_parse(l))
                return false;
        if (!l->extended && l->patterns_n == 1 && !l->patterns[0].len) {
                list_put_root(imap);
                imap_ok(imap, NULL, "Completed");
                return false;
        }
        imap_status_asked(imap, l->status_items);
        if (l->subscribed) {
                if (list_sub_begin(l, &err) == 0)
                        return true;
                imap_fail(imap, &err);
                return false;
        }
        list_walk_begin(l);
        return true;
}

enum cmd_result cmd_list(struct imap *imap)
{
        struct list *l;

        if (!imap->cmd.state && !begin(imap))
                return CMD_DONE;
        l = imap->cmd.state;
        return list_run(l, l->subscribed ? list_sub_step : list_walk_step);
}
