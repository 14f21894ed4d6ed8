/* rolling_peer - the functions of client.h, for rolling replication; a file of its own, so that a test with others links none of them */
#include "replication/rolling.h"

const struct rolling_peer rolling_client = {
        .open = client_open,
        .close = client_close,
        .name = client_peer,
        .traffic = client_traffic,
        .noop = client_noop,
        .restart = client_restart,
        .user = client_sync_user,
        .mailboxes = client_sync_mailboxes,
        .meta = client_sync_meta,
        .quota = client_sync_quota,
        .annotation = client_sync_annotation,
        .seen = client_sync_seen,
        .sub = client_sync_sub,
        .unmailbox = client_sync_unmailbox,
        .unuser = client_sync_unuser,
};
