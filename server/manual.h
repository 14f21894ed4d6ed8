/* manual - the option table as text and as the manual page imapd.conf(5). */
#ifndef SERVER_MANUAL_H
#define SERVER_MANUAL_H

void manual_dump_options(void);                 /* a line an option: name, type, default, handled; TABs between */
void manual_write_options(void);                /* man/imapd.conf.5 */

/* The page cyrus-programs(8), from the table of programs. */
void manual_write_programs(void);
/* What a program of Cyrus is for, a few words; NULL: none of Cyrus's. */
const char *manual_program_purpose(const char *name);

#endif
