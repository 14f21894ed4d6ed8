/*
 * cmds - the handlers of IMAP's commands, one file each (cmd_X.c). The table is in cmd.c.
 * A handler is called until it returns CMD_DONE or CMD_CLOSE; see enum cmd_result in imap.h.
 */
#ifndef SERVER_IMAP_CMDS_H
#define SERVER_IMAP_CMDS_H

#include "server/imap/imap.h"

/* Any state */
enum cmd_result cmd_capability(struct imap *imap);
enum cmd_result cmd_id(struct imap *imap);
enum cmd_result cmd_logout(struct imap *imap);
enum cmd_result cmd_noop(struct imap *imap);

/* Not authenticated */
enum cmd_result cmd_authenticate(struct imap *imap);
enum cmd_result cmd_login(struct imap *imap);
enum cmd_result cmd_starttls(struct imap *imap);

/* Authenticated: mailbox names, subscriptions, access control */
enum cmd_result cmd_append(struct imap *imap);
enum cmd_result cmd_create(struct imap *imap);
enum cmd_result cmd_delete(struct imap *imap);
enum cmd_result cmd_deleteacl(struct imap *imap);
enum cmd_result cmd_enable(struct imap *imap);
enum cmd_result cmd_esearch(struct imap *imap);
enum cmd_result cmd_examine(struct imap *imap);
enum cmd_result cmd_compress(struct imap *imap);
enum cmd_result cmd_genurlauth(struct imap *imap);
enum cmd_result cmd_getacl(struct imap *imap);
enum cmd_result cmd_getannotation(struct imap *imap);
enum cmd_result cmd_getmetadata(struct imap *imap);
enum cmd_result cmd_getquota(struct imap *imap);
enum cmd_result cmd_getquotaroot(struct imap *imap);
enum cmd_result cmd_idle(struct imap *imap);
enum cmd_result cmd_list(struct imap *imap);
enum cmd_result cmd_listrights(struct imap *imap);
enum cmd_result cmd_lsub(struct imap *imap);
enum cmd_result cmd_myrights(struct imap *imap);
enum cmd_result cmd_namespace(struct imap *imap);
enum cmd_result cmd_notify(struct imap *imap);
enum cmd_result cmd_rename(struct imap *imap);
enum cmd_result cmd_rlist(struct imap *imap);
enum cmd_result cmd_rlsub(struct imap *imap);
enum cmd_result cmd_resetkey(struct imap *imap);
enum cmd_result cmd_select(struct imap *imap);
enum cmd_result cmd_setacl(struct imap *imap);
enum cmd_result cmd_setannotation(struct imap *imap);
enum cmd_result cmd_setmetadata(struct imap *imap);
enum cmd_result cmd_setquota(struct imap *imap);
enum cmd_result cmd_status(struct imap *imap);
enum cmd_result cmd_subscribe(struct imap *imap);
enum cmd_result cmd_syncapply(struct imap *imap);
enum cmd_result cmd_syncget(struct imap *imap);
enum cmd_result cmd_syncrestart(struct imap *imap);
enum cmd_result cmd_syncrestore(struct imap *imap);
enum cmd_result cmd_unauthenticate(struct imap *imap);
enum cmd_result cmd_urlfetch(struct imap *imap);
enum cmd_result cmd_unsubscribe(struct imap *imap);
enum cmd_result cmd_xlist(struct imap *imap);

/* Selected; those with a UID form look at imap->cmd.uid */
enum cmd_result cmd_cancelupdate(struct imap *imap);
enum cmd_result cmd_check(struct imap *imap);
enum cmd_result cmd_close(struct imap *imap);
enum cmd_result cmd_copy(struct imap *imap);
enum cmd_result cmd_expunge(struct imap *imap);
enum cmd_result cmd_fetch(struct imap *imap);
enum cmd_result cmd_move(struct imap *imap);
enum cmd_result cmd_replace(struct imap *imap);
enum cmd_result cmd_search(struct imap *imap);
enum cmd_result cmd_sort(struct imap *imap);
enum cmd_result cmd_store(struct imap *imap);
enum cmd_result cmd_thread(struct imap *imap);
enum cmd_result cmd_unselect(struct imap *imap);
enum cmd_result cmd_xrunannotator(struct imap *imap);

/* What two commands share: SELECT and EXAMINE (cmd_select.c), SUBSCRIBE and UNSUBSCRIBE (cmd_subscribe.c). */
enum cmd_result imap_select_command(struct imap *imap, bool examine);
enum cmd_result imap_subscribe_command(struct imap *imap, bool subscribed);

#endif
