/* list_args - the arguments of LIST and LSUB. */
#ifndef SERVER_IMAP_LIST_ARGS_H
#define SERVER_IMAP_LIST_ARGS_H

#include "server/imap/list.h"

/* Fill the list's options and patterns. false: the reply was sent. */
bool list_parse(struct list *l);
bool list_parse_lsub(struct list *l);

#endif
