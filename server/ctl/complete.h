/*
 * complete - completion for shells: scripts for bash and zsh, which ask cyrctl itself (`cyrctl --complete -- words…`) what may stand at
 * the cursor. The answer comes from the table of commands and, for mailboxes, users and sessions, from the running daemon; the store is
 * never opened, and a daemon that does not answer in time is as good as none.
 */
#ifndef SERVER_CTL_COMPLETE_H
#define SERVER_CTL_COMPLETE_H

#include <stdbool.h>

/* Print the script for "bash" or "zsh". False: no such shell. */
bool complete_script(const char *shell);

/*
 * `argv`: the words of the command line behind "cyrctl", the last one being what is to be completed (perhaps ""). Prints a candidate a line,
 * with a TAB and a description where there is one; ":files" says that files may stand there.
 */
void complete_words(int argc, char **argv);

#endif
