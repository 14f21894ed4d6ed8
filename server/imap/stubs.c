/* stubs - commands that are still missing. Whoever writes one deletes its line here. */
#include "server/imap/cmds.h"

#define STUB(name) enum cmd_result name(struct imap *imap) { return imap_no(imap, "UNAVAILABLE", "Not implemented"); }
STUB(cmd_search)
