/* manual - the option table as text and as the manual page imapd.conf(5). */
#ifndef SERVER_MANUAL_H
#define SERVER_MANUAL_H

void manual_dump_options(void);                 /* a line an option: name, type, default, handled; TABs between */
void manual_write_options(void);                /* man/imapd.conf.5 */

#endif
