/* table - see table.h */
#include "server/ctl/table.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "util/array.h"
#include "util/str.h"

#define CELL_MAX 2000                           /* octets */
#define UPRIGHT_ABOVE 130                       /* columns of text */

struct column { char *key, *heading; size_t width; bool right, time; };

struct ctl_table {
        ARRAY(struct column) columns;
        ARRAY(char *) cells;                    /* rows of columns.n */
        size_t rows;
};

struct ctl_table *ctl_table_create(const char *columns)
{
        struct ctl_table *t = xcalloc(1, sizeof *t);

        for (const char *p = columns; p && *p;) {
                size_t len = strcspn(p, " "), eq = strcspn(p, "=");
                struct column *c = ARRAY_PUSH(&t->columns);

                *c = (struct column){ xstrndup(p, eq), xstrndup(p + eq + 1, len - eq - 1), 0, true, false };
                if (eq && c->key[eq - 1] == '@') {
                        c->key[eq - 1] = '\0';
                        c->time = true;
                }
                p += len + (p[len] == ' ');
        }
        return t;
}

/* How wide UTF-8 text is on a terminal, near enough: characters. */
static size_t text_width(const char *s)
{
        size_t n = 0;

        for (; *s; s++)
                n += ((unsigned char)*s & 0xc0) != 0x80;
        return n;
}

void ctl_text_clean(char *text)
{
        for (unsigned char *p = (unsigned char *)text; *p; p++)
                if (*p < 0x20 || *p == 0x7f)
                        *p = ' ';
                else if (*p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0)
                        p[0] = p[1] = ' ';
}

static char *cell_text(const json_t *v)
{
        char *text;

        if (json_is_string(v))
                text = xstrdup(json_string_value(v));
        else if (json_is_boolean(v))
                text = xstrdup(json_is_true(v) ? "yes" : "no");
        else if (!v || json_is_null(v))
                text = xstrdup("");
        else
                text = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(10));
        ctl_text_clean(text);                           /* an ACL has TABs */
        if (strlen(text) > CELL_MAX) {                  /* what strangers wrote may be of any length */
                size_t cut = CELL_MAX;

                while (cut > 0 && ((unsigned char)text[cut] & 0xc0) == 0x80)
                        cut--;
                text[cut] = '\0';
        }
        for (size_t n = strlen(text); n > 0 && text[n - 1] == ' '; n--)
                text[n - 1] = '\0';
        return text;
}

static char *time_text(const json_t *v)
{
        time_t t = (time_t)json_integer_value(v);
        char text[32];
        struct tm tm;

        if (!json_is_integer(v))
                return cell_text(v);
        localtime_r(&t, &tm);
        strftime(text, sizeof text, "%Y-%m-%d %H:%M", &tm);
        return xstrdup(text);
}

void ctl_table_add(struct ctl_table *t, const json_t *row)
{
        bool any = false;

        if (t->columns.n == 0) {
                const char *key;
                json_t *value;

                json_object_foreach((json_t *)row, key, value)
                        *ARRAY_PUSH(&t->columns) = (struct column){ xstrdup(key), xstrdup(key), 0, true, false };
        }
        for (size_t i = 0; i < t->columns.n; i++)
                any = any || json_object_get(row, t->columns.v[i].key);
        if (!any)
                return;
        for (size_t i = 0; i < t->columns.n; i++) {
                struct column *c = &t->columns.v[i];
                const json_t *v = json_object_get(row, c->key);
                char *text = c->time ? time_text(v) : cell_text(v);
                size_t width = text_width(text);

                if (v && !json_is_number(v))
                        c->right = false;
                if (width > c->width)
                        c->width = width;
                *ARRAY_PUSH(&t->cells) = text;
        }
        t->rows++;
}

static void put_cell(const struct column *c, const char *text, bool last, FILE *out)
{
        int pad = (int)(c->width - text_width(text));

        if (c->right)
                fprintf(out, "%*s%s", pad, "", text);
        else if (last)
                fputs(text, out);
        else
                fprintf(out, "%s%*s", text, pad, "");
        fputs(last ? "\n" : "  ", out);
}

/* One row that is wider than a terminal is read more easily upright. */
static bool print_upright(const struct ctl_table *t, FILE *out)
{
        size_t total = 0, heading = 0;

        for (size_t i = 0; i < t->columns.n; i++) {
                size_t width = text_width(t->columns.v[i].heading);

                total += 2 + (t->columns.v[i].width > width ? t->columns.v[i].width : width);
                heading = width > heading ? width : heading;
        }
        if (t->rows != 1 || total <= UPRIGHT_ABOVE)
                return false;
        for (size_t i = 0; i < t->columns.n; i++)
                fprintf(out, "%-*s  %s\n", (int)heading, t->columns.v[i].heading, t->cells.v[i]);
        return true;
}

void ctl_table_print(struct ctl_table *t, FILE *out)
{
        if (t->rows > 0 && !print_upright(t, out))
                ctl_table_print_wide(t, out);
}

void ctl_table_print_wide(struct ctl_table *t, FILE *out)
{
        for (size_t i = 0; i < t->columns.n; i++) {
                size_t width = text_width(t->columns.v[i].heading);

                if (t->columns.v[i].width < width)
                        t->columns.v[i].width = width;
        }
        for (size_t i = 0; i < t->columns.n; i++)
                put_cell(&t->columns.v[i], t->columns.v[i].heading, i + 1 == t->columns.n, out);
        for (size_t r = 0; r < t->rows; r++)
                for (size_t i = 0; i < t->columns.n; i++)
                        put_cell(&t->columns.v[i], t->cells.v[r * t->columns.n + i], i + 1 == t->columns.n, out);
}

void ctl_table_destroy(struct ctl_table **tp)
{
        struct ctl_table *t = *tp;

        *tp = NULL;
        if (!t)
                return;
        for (size_t i = 0; i < t->columns.n; i++) {
                free(t->columns.v[i].key);
                free(t->columns.v[i].heading);
        }
        for (size_t i = 0; i < t->cells.n; i++)
                free(t->cells.v[i]);
        ARRAY_FREE(&t->columns);
        ARRAY_FREE(&t->cells);
        free(t);
}
