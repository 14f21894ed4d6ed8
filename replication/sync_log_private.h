/* sync_log_private - what the files of sync_log share: the locked file. */
#ifndef REPLICATION_SYNC_LOG_PRIVATE_H
#define REPLICATION_SYNC_LOG_PRIVATE_H

#include "replication/sync_log.h"

int sync_log_lock(int fd, const char *path, struct err *err);
void sync_log_unlock(int fd);
/* Is that open file (still) the one of this name? */
bool sync_log_is_file(int fd, const char *path);
/* Open for append, made with its directory if it is not there, locked and of that name. close() unlocks. */
int sync_log_open_locked(const char *path, int *fd_r, struct err *err);
/* Append to the locked file; what is there and has no line end gets one. */
int sync_log_write(int fd, struct span lines, struct err *err);

#endif
