/* Stands in for the protocol until it is there. */
#include "server/protocols.h"

const struct session_ops control_ops = { .protocol = "control" };
