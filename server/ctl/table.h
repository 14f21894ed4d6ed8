/*
 * table - rows of JSON objects as a table for people: columns as wide as what is in them, numbers to the right.
 */
#ifndef SERVER_CTL_TABLE_H
#define SERVER_CTL_TABLE_H

#include <jansson.h>
#include <stdio.h>

struct ctl_table;
/* `columns`: "key=Heading key=Heading …"; rows without any of them are not shown. "key@=Heading": Unix seconds, shown as local time.
 * NULL: the keys of the first row. */
struct ctl_table *ctl_table_create(const char *columns);
void ctl_table_add(struct ctl_table *t, const json_t *row);
void ctl_table_print(struct ctl_table *t, FILE *out);
/* With the headings even when there is no row, and a single row lying too. */
void ctl_table_print_wide(struct ctl_table *t, FILE *out);
/* Blanks instead of what would move a terminal's cursor or more: C0 and C1 control characters, DEL. In place. */
void ctl_text_clean(char *text);
void ctl_table_destroy(struct ctl_table **t);

#endif
