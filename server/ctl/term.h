/*
 * term - the terminal while cyrctl top has it: a screen of its own, keys without Return. Only ANSI sequences that every terminal of the last
 * decades knows. One at a time; one thread.
 */
#ifndef SERVER_CTL_TERM_H
#define SERVER_CTL_TERM_H

#include <stdbool.h>

/* Are stdin and stdout a terminal that can do it (TERM is set and not "dumb")? */
bool term_possible(void);
/* Take it. From here on SIGINT, SIGTERM, SIGHUP and SIGQUIT end term_key() instead of the process; SIGTSTP gives the terminal back while
 * the process is stopped. */
void term_take(void);
void term_give_back(void);                      /* also at exit(); never wrong */
void term_size(unsigned *rows_r, unsigned *columns_r);
/* Wait at most timeout_ms for a key. Returns the octet, 0 when the time is over or the window changed, -1 when a signal or the end of
 * input says to stop. */
int term_key(int timeout_ms);
/* A picture: from the top left corner, `text` of lines ending in '\n'; what it does not reach is blank. Lines must fit. */
void term_show(const char *text);

#endif
