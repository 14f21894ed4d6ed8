#include "server/imap/cmds.h"
#define STUB(name) enum cmd_result name(struct imap *imap) { return imap_no(imap, "UNAVAILABLE", "Not implemented"); }
STUB(cmd_create)
STUB(cmd_delete)
STUB(cmd_rename)
STUB(cmd_list)
STUB(cmd_lsub)
STUB(cmd_status)
