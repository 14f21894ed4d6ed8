/* stubs - commands that are still missing. Whoever writes one deletes its line here. */
#include "server/imap/cmds.h"

#define STUB(name) enum cmd_result name(struct imap *imap) { return imap_no(imap, "UNAVAILABLE", "Not implemented"); }
STUB(cmd_append)
STUB(cmd_examine)
STUB(cmd_idle)
STUB(cmd_select)
STUB(cmd_check)
STUB(cmd_close)
STUB(cmd_copy)
STUB(cmd_expunge)
STUB(cmd_fetch)
STUB(cmd_move)
STUB(cmd_search)
STUB(cmd_store)
STUB(cmd_unselect)

bool imap_append_precheck(struct imap *imap, struct span args, uint64_t literal_bytes, struct append_check *check_r)
{
        (void)imap, (void)args, (void)literal_bytes;
        check_r->text = "Not implemented";
        return false;
}

void imap_unselect(struct imap *imap)
{
        (void)imap;
}

bool imap_poll(struct imap *imap, bool may_expunge)
{
        (void)imap, (void)may_expunge;
        return true;
}

bool imap_selected_lost(struct imap *imap)
{
        (void)imap;
        return false;
}

void imap_enable_condstore(struct imap *imap)
{
        imap->condstore = true;
}
