/*
 * rolling_state - the quarantine of a channel, and its file; see rolling_private.h
 *
 *   {"version": 1, "compare": null | {"after": "user.ann.x", "done": 17},
 *    "quarantine": [{"item": "MAILBOX user.bea", "reason": "…", "since": 1795310300, "next": 1795310315, "tries": 1, "put_off": false} …]}
 *
 * Written whole (fs_replace()): after a stop it is the former one or this one. With the former one, log-run is still there.
 */
#include "replication/rolling_private.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "store/mailname.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/log.h"
#include "util/must.h"

#define FILE_MAX ((size_t)256 << 20)
#define RETRY_FIRST_S 15
#define RETRY_MAX_S 3600
#define PUT_OFF_S 2

static void free_one(struct quarantined *one)
{
        free(one->text);
        free(one->reason);
        free(one);
}

void quarantine_init(struct quarantine *q)
{
        *q = (struct quarantine){ .known = table_create() };
}

void quarantine_deinit(struct quarantine *q)
{
        for (size_t i = 0; i < q->list.n; i++)
                free_one(q->list.v[i]);
        ARRAY_FREE(&q->list);
        table_destroy(&q->known);
}

struct quarantined *quarantine_find(const struct quarantine *q, const char *text)
{
        return table_find(q->known, span_of(text));
}

static struct quarantined *add(struct quarantine *q, const char *text)
{
        struct quarantined *one = xcalloc(1, sizeof *one);

        one->text = xstrdup(text);
        one->reason = xstrdup("");
        *ARRAY_PUSH(&q->list) = one;
        table_set(q->known, span_of(text), one);
        return one;
}

static int64_t wait_s(unsigned tries)
{
        int64_t s = RETRY_FIRST_S;

        while (--tries > 0 && s < RETRY_MAX_S)
                s *= 2;
        return s < RETRY_MAX_S ? s : RETRY_MAX_S;
}

void quarantine_put(struct quarantine *q, const char *text, const char *reason, bool put_off)
{
        struct quarantined *one = quarantine_find(q, text);
        int64_t now = clock_wall_s();

        if (!one) {
                one = add(q, text);
                one->since = now;
        }
        free(one->reason);
        one->reason = xstrdup(reason);
        one->put_off = put_off && !one->tries;
        if (put_off)
                one->closely = false;
        if (!put_off)
                one->tries++;
        one->next = now + (put_off ? PUT_OFF_S : wait_s(one->tries));
        one->touched = ++q->turn;
        q->dirty = true;
}

static void remove_at(struct quarantine *q, size_t i)
{
        struct quarantined *one = q->list.v[i];

        table_set(q->known, span_of(one->text), NULL);
        q->list.v[i] = q->list.v[--q->list.n];
        free_one(one);
        q->dirty = true;
}

static bool is_done(struct quarantined *one, uint64_t begun)
{
        if (one->touched < begun)
                return true;
        one->next = 0;
        return false;
}

void quarantine_remove(struct quarantine *q, const char *text, uint64_t begun)
{
        struct quarantined *one = quarantine_find(q, text);

        for (size_t i = 0; one && i < q->list.n; i++)
                if (q->list.v[i] == one) {
                        if (is_done(one, begun))
                                remove_at(q, i);
                        return;
                }
}

static bool is_of_user(const char *text, const char *user, const char *deleted_prefix)
{
        struct arena arena = ARENA_INIT;
        struct sync_line l;
        bool yes = false;

        if (sync_line_parse(span_of(text), &arena, &l, NULL) == 0) {
                if (l.kind == SYNC_MAILBOX)
                        yes = strcmp(work_owner(deleted_prefix, l.a, &arena), user) == 0;
                else
                        yes = (l.kind == SYNC_USER || l.kind == SYNC_META || l.kind == SYNC_SEEN || l.kind == SYNC_SUB) && strcmp(l.a, user) == 0;
        }
        arena_deinit(&arena);
        return yes;
}

void quarantine_remove_user(struct quarantine *q, const char *user, const char *deleted_prefix, uint64_t begun)
{
        for (size_t i = q->list.n; i-- > 0;)
                if (is_of_user(q->list.v[i]->text, user, deleted_prefix) && is_done(q->list.v[i], begun))
                        remove_at(q, i);
}

struct quarantined *quarantine_due(const struct quarantine *q, int64_t now, int64_t *next_r)
{
        struct quarantined *first = NULL;

        for (size_t i = 0; i < q->list.n; i++)
                if (!first || q->list.v[i]->next < first->next)
                        first = q->list.v[i];
        *next_r = first ? first->next : INT64_MAX;
        return first && first->next <= now ? first : NULL;
}

/* ---- the file ---- */

static void load_one(struct quarantine *q, const json_t *j)
{
        const char *text = json_string_value(json_object_get(j, "item")), *reason = json_string_value(json_object_get(j, "reason"));
        struct arena arena = ARENA_INIT;
        struct quarantined *one;
        struct sync_line l;

        if (text && !quarantine_find(q, text) && sync_line_parse(span_of(text), &arena, &l, NULL) == 0) {
                one = add(q, text);
                free(one->reason);
                one->reason = xstrdup(reason ? reason : "");
                one->since = json_integer_value(json_object_get(j, "since"));
                one->next = json_integer_value(json_object_get(j, "next"));
                one->tries = (unsigned)json_integer_value(json_object_get(j, "tries"));
                one->put_off = json_is_true(json_object_get(j, "put_off"));
        }
        arena_deinit(&arena);
}

static void take_state(const json_t *j, struct quarantine *q, struct compare_state *compare)
{
        const json_t *c = json_object_get(j, "compare"), *list = json_object_get(j, "quarantine");
        const char *after = json_string_value(json_object_get(c, "after"));

        compare->on = json_is_object(c);
        compare->after = xstrdup(after ? after : "");
        compare->done = (uint64_t)json_integer_value(json_object_get(c, "done"));
        for (size_t i = 0; i < json_array_size(list); i++)
                load_one(q, json_array_get(list, i));
}

void state_load(const char *path, struct quarantine *q, struct compare_state *compare)
{
        struct str text = STR_INIT;
        struct err err = ERR_INIT;
        json_t *j = NULL;

        if (fs_slurp(path, FILE_MAX, &text, &err) == 0)
                j = json_loadb(text.data, text.len, 0, NULL);
        if (j && json_integer_value(json_object_get(j, "version")) == 1) {
                take_state(j, q, compare);
        } else {
                if (err.code != ERR_NOTFOUND)
                        log_event(LOG_WARN, NULL, "rolling.state", "file=%s reason=\"%s\" consequence=\"everything is compared\"", path,
                                  err.code ? err.text : "not a state of rolling replication");
                *compare = (struct compare_state){ true, xstrdup(""), 0 };
                q->dirty = true;
        }
        json_decref(j);
        str_deinit(&text);
}

/* A text that is no UTF-8 cannot be a JSON string: its other octets become question marks. */
static json_t *json_text(const char *text)
{
        json_t *j = json_string(text);
        struct str out = STR_INIT;

        if (j)
                return j;
        for (; *text; text++)
                str_append_c(&out, (unsigned char)*text < 0x80 ? *text : '?');
        j = json_string(out.data);
        str_deinit(&out);
        return j;
}

char *state_text(struct quarantine *q, const struct compare_state *compare)
{
        json_t *j = json_pack("{s:i, s:n, s:[]}", "version", 1, "compare", "quarantine"), *list = json_object_get(j, "quarantine");
        char *text;

        if (compare->on)
                json_object_set_new(j, "compare", json_pack("{s:o, s:I}", "after", json_text(compare->after), "done", (json_int_t)compare->done));
        for (size_t i = 0; i < q->list.n; i++) {
                const struct quarantined *one = q->list.v[i];

                json_array_append_new(list, json_pack("{s:o, s:o, s:I, s:I, s:I, s:b}", "item", json_text(one->text), "reason", json_text(one->reason),
                                                      "since", (json_int_t)one->since, "next", (json_int_t)one->next, "tries", (json_int_t)one->tries,
                                                      "put_off", one->put_off));
        }
        text = json_dumps(j, JSON_COMPACT);
        json_decref(j);
        must(text != NULL);
        q->dirty = false;
        return text;
}
