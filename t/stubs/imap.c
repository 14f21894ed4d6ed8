/* Stands in for the protocol until it is there. */
#include "server/protocols.h"

const struct session_ops imap_ops = { .protocol = "imap" };
