/*
 * specialuse - which special-use attributes a mailbox may bear (RFC 6154 2): \Archive \Drafts \Important \Junk \Sent \Trash and what
 * `specialuse_extra` names. \All and \Flagged are promises about contents that nothing here keeps. Any thread.
 */
#ifndef STORE_SPECIALUSE_H
#define STORE_SPECIALUSE_H

#include <stdbool.h>

#include "store/mboxlist.h"
#include "util/arena.h"
#include "util/conf.h"
#include "util/str.h"

/* The attribute as we write it ("\\Sent" of "\\sent"), in the arena or static; NULL: not one of ours. `service` may be NULL. */
const char *specialuse_known(const struct conf *conf, const char *service, struct span attribute, struct arena *arena);
/* Blank-separated attributes, as we write them. Returns 0 and *uses_r (in the arena, "" for none), or -1: ERR_UNSUPPORTED. */
int specialuse_check(struct conf *conf, const char *text, struct arena *arena, const char **uses_r, struct err *err);
/* Does the user whose mailbox `name` is have another mailbox with one of these uses? It is found by that use, so there is to be one.
 * Shared mailboxes: never. Looks at all mailboxes of the user. */
bool specialuse_taken(struct mboxlist *ml, const char *name, const char *uses);

#endif
