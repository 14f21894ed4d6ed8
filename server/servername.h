/*
 * servername - what this host calls itself: `servername` of imapd.conf, else the machine's name. In greetings, Received lines, URLs. Any thread.
 */
#ifndef SERVER_SERVERNAME_H
#define SERVER_SERVERNAME_H

struct conf;

#define SERVERNAME_MAX 256                      /* with its NUL; what is longer is cut */
/* `service`: whose options come first; NULL: none's. Returns `name`. */
const char *servername(const struct conf *conf, const char *service, char name[SERVERNAME_MAX]);

#endif
