/* diag - see diag.h */
#include "util/diag.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "util/array.h"
#include "util/must.h"

void diag_init(struct diag *d)
{
        *d = (struct diag)DIAG_INIT;
}

void diag_deinit(struct diag *d)
{
        arena_deinit(&d->arena);
        ARRAY_FREE(d);
        d->errors = d->warnings = d->notes = 0;
}

void diag_add(struct diag *d, enum diag_level level, const char *file, unsigned line, unsigned column, const char *fmt, ...)
{
        char text[ERR_TEXT_MAX];
        struct diag_message *m;
        va_list ap;

        if (level == DIAG_ERROR)
                d->errors++;
        else if (level == DIAG_WARNING)
                d->warnings++;
        else
                d->notes++;
        if (d->n >= DIAG_MAX)
                return;
        va_start(ap, fmt);
        vsnprintf(text, sizeof text, fmt, ap);
        va_end(ap);
        /* What a file says is quoted in messages: it must not play tricks on the terminal or the log. */
        for (char *p = text; *p; p++)
                if ((unsigned char)*p < 0x20 || *p == 0x7f)
                        *p = '?';
        m = ARRAY_PUSH(d);
        *m = (struct diag_message){ .level = level, .file = arena_strdup(&d->arena, file), .line = line, .column = column,
                                    .text = arena_strdup(&d->arena, text) };
}

void diag_add_unread(struct diag *d, const char *file, const struct err *err)
{
        size_t len = strlen(file);
        const char *name = strstr(err->text, file);

        /* "open FILE: why", "FILE: why" */
        if (len && name && strncmp(name + len, ": ", 2) == 0)
                diag_add(d, DIAG_ERROR, file, 0, 0, "%s", name + len + 2);
        else
                diag_add(d, DIAG_ERROR, file, 0, 0, "%s", err->text);
}

void diag_format(const struct diag_message *m, struct str *out)
{
        str_append_str(out, m->file);
        if (m->line != 0)
                str_printf(out, ":%u", m->line);
        if (m->line != 0 && m->column != 0)
                str_printf(out, ":%u", m->column);
        str_printf(out, ": %s%s", m->level == DIAG_WARNING ? "warning: " : m->level == DIAG_NOTE ? "note: " : "", m->text);
}

int diag_first_error(const struct diag *d, struct err *err)
{
        if (d->errors == 0)
                return 0;
        for (size_t i = 0; i < d->n; i++) {
                struct str s = STR_INIT;

                if (d->v[i].level != DIAG_ERROR)
                        continue;
                diag_format(&d->v[i], &s);
                err_set(err, ERR_CONFIG, "%s", s.data);
                str_deinit(&s);
                return -1;
        }
        return err_set(err, ERR_CONFIG, "%zu errors", d->errors);       /* all of them past DIAG_MAX */
}
