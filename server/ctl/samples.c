/* samples - see samples.h */
#include "server/ctl/samples.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/must.h"
#include "util/str.h"

/* name{label="value",label="value"} 12 → {"name": …, "labels": {…}, "value": 12} */
static json_t *sample_json(const char *line)
{
        size_t name = strcspn(line, "{ ");
        json_t *labels = json_object(), *row;
        const char *p = line + name;

        while (*p == '{' || *p == ',') {
                const char *key = ++p;
                size_t len = strcspn(p, "=");
                char label[64];
                struct str value = STR_INIT;

                for (p += len + (p[len] != '\0') + 1; *p && *p != '"'; p++) {
                        if (*p == '\\' && p[1])
                                p++;
                        str_append_c(&value, *p == 'n' && p[-1] == '\\' ? '\n' : *p);
                }
                snprintf(label, sizeof label, "%.*s", (int)len, key);
                json_object_set_new(labels, label, json_string(value.data));
                str_deinit(&value);
                if (*p)
                        p++;
        }
        row = json_pack("{s:s%, s:o}", "name", line, name, "labels", labels);
        p += strcspn(p, " ");
        json_object_set_new(row, "value", strchr(p, '.') || strchr(p, 'e') ? json_real(strtod(p, NULL)) : json_integer(strtoll(p, NULL, 10)));
        return row;
}

static void metrics_row(void *ctx, json_t *row)
{
        struct ctl_client *outer = ctx;
        const char *text = json_string_value(json_object_get(row, "text"));
        char *copy, *line, *save = NULL;

        if (!text)
                return;
        if (!outer->json) {
                fputs(text, stdout);
                return;
        }
        copy = xstrdup(text);
        for (line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
                json_t *sample = *line == '#' ? NULL : sample_json(line);

                if (sample)
                        outer->row(outer->ctx, sample);
                json_decref(sample);
        }
        free(copy);
}

int samples_run(struct ctl_client *client, json_t *args, struct err *err)
{
        struct ctl_client inner = *client;

        inner.row = metrics_row;
        inner.ctx = client;
        inner.waiting = NULL;
        inner.progress = NULL;
        return ctl_client_call(&inner, "metrics", args, err);
}
