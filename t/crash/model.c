/* model - see model.h */
#include "t/crash/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/must.h"

static void msg_deinit(struct msg_model *m)
{
        ARRAY_FREE(&m->flags);
        ARRAY_FREE(&m->other);
}

static void box_deinit(struct box_model *b)
{
        for (size_t i = 0; i < b->msgs.n; i++)
                msg_deinit(&b->msgs.v[i]);
        ARRAY_FREE(&b->msgs);
        for (size_t i = 0; i < b->gone.n; i++)
                msg_deinit(&b->gone.v[i]);
        ARRAY_FREE(&b->gone);
}

static void msg_copy(struct msg_model *c, const struct msg_model *m)
{
        *c = *m;
        memset(&c->flags, 0, sizeof c->flags);
        for (size_t f = 0; f < m->flags.n; f++)
                *ARRAY_PUSH(&c->flags) = m->flags.v[f];
        memset(&c->other, 0, sizeof c->other);
        for (size_t f = 0; f < m->other.n; f++)
                *ARRAY_PUSH(&c->other) = m->other.v[f];
}

void model_copy(struct thread_model *to, const struct thread_model *from)
{
        memset(to, 0, sizeof *to);
        for (size_t i = 0; i < from->boxes.n; i++) {
                const struct box_model *is = &from->boxes.v[i];
                struct box_model *b = ARRAY_PUSH(&to->boxes);

                *b = *is;
                memset(&b->msgs, 0, sizeof b->msgs);
                memset(&b->gone, 0, sizeof b->gone);
                for (size_t k = 0; k < is->msgs.n; k++)
                        msg_copy(ARRAY_PUSH(&b->msgs), &is->msgs.v[k]);
                for (size_t k = 0; k < is->gone.n; k++)
                        msg_copy(ARRAY_PUSH(&b->gone), &is->gone.v[k]);
        }
}

void model_deinit(struct thread_model *t)
{
        for (size_t i = 0; i < t->boxes.n; i++)
                box_deinit(&t->boxes.v[i]);
        ARRAY_FREE(&t->boxes);
}

static struct box_model *model_box(struct thread_model *t, const char *name)
{
        for (size_t i = 0; i < t->boxes.n; i++)
                if (strcmp(t->boxes.v[i].name, name) == 0)
                        return &t->boxes.v[i];
        return NULL;
}

static struct msg_model *model_msg(struct box_model *b, const char *uid)
{
        for (size_t i = 0; i < b->msgs.n; i++)
                if (b->msgs.v[i].uid == (uint32_t)strtoul(uid, NULL, 10))
                        return &b->msgs.v[i];
        return NULL;
}

/* `keep`: it may come back. Of those that might the last so many are remembered: what is brought back was expunged just before. */
#define GONE_MAX 64
static void model_remove(struct box_model *b, const char *uid, bool keep)
{
        struct msg_model *m = model_msg(b, uid);

        if (!m)
                return;
        if (keep && b->gone.n == GONE_MAX) {
                msg_deinit(&b->gone.v[0]);
                memmove(b->gone.v, b->gone.v + 1, --b->gone.n * sizeof *b->gone.v);
        }
        if (keep)
                *ARRAY_PUSH(&b->gone) = *m;
        else
                msg_deinit(m);
        memmove(m, m + 1, (size_t)(&b->msgs.v[b->msgs.n] - (m + 1)) * sizeof *m);
        b->msgs.n--;
}

static void model_add(struct box_model *b, const char *guid, uint32_t uid, uint32_t flags)
{
        struct msg_model *m = ARRAY_PUSH(&b->msgs);

        memset(m, 0, sizeof *m);
        snprintf(m->guid, sizeof m->guid, "%s", guid);
        m->uid = uid;
        *ARRAY_PUSH(&m->flags) = (struct flag_at){ flags, 0 };
        *ARRAY_PUSH(&m->other) = (struct flag_at){ 0, 0 };
}

/*
 * In flight it is what had become durable of it, or is in the end. What was \Seen is so durably once the move is acknowledged; where it no longer
 * was there was nothing to write, and that it was taken away may be lost as ever.
 */
static void carry_seen(const struct msg_model *m, struct msg_model *to, bool acknowledged)
{
        bool durable = acknowledged && m->other.v[m->other.n - 1].flags;

        to->other.n = 0;
        for (size_t i = durable ? m->other.n - 1 : 0; i < m->other.n; i++)
                *ARRAY_PUSH(&to->other) = (struct flag_at){ m->other.v[i].flags, durable ? 0 : m->other.v[i].time_us };
}

/* With the flags and all annotations that it had, durably. */
static void model_restore(struct box_model *b, const char *uid, uint32_t new_uid)
{
        for (size_t i = 0; i < b->gone.n; i++) {
                struct msg_model *m = &b->gone.v[i];

                if (m->uid != (uint32_t)strtoul(uid, NULL, 10))
                        continue;
                model_add(b, m->guid, new_uid, m->flags.v[m->flags.n - 1].flags);
                memcpy(b->msgs.v[b->msgs.n - 1].remark, m->remark, sizeof m->remark);
                memcpy(b->msgs.v[b->msgs.n - 1].mine, m->mine, sizeof m->mine);
                b->msgs.v[b->msgs.n - 1].litter = m->litter;
                msg_deinit(m);
                memmove(m, m + 1, (size_t)(&b->gone.v[b->gone.n] - (m + 1)) * sizeof *m);
                b->gone.n--;
                return;
        }
}

struct box_model *model_apply(struct thread_model *t, const char *op, uint32_t first_uid, uint64_t time_us)
{
        char *copy = xstrdup(op), *save = NULL;
        char *verb = strtok_r(copy, " ", &save), *name = strtok_r(NULL, " ", &save), *word;
        struct box_model *b = model_box(t, name), *to;
        char to_name[64] = "", remark[32];

        if (strcmp(verb, "create") == 0) {
                b = ARRAY_PUSH(&t->boxes);
                memset(b, 0, sizeof *b);
                snprintf(b->name, sizeof b->name, "%.63s", name);
        } else if (strcmp(verb, "subscribe") == 0 || strcmp(verb, "unsubscribe") == 0) {
                b->subscribed = verb[0] == 's';
                b->dumping = b->dumped = false;
        } else if (strcmp(verb, "quota") == 0) {
                b->limit = (unsigned)atoi(strtok_r(NULL, " ", &save));
                b->dumping = b->dumped = false;
        } else if (strcmp(verb, "delete") == 0) {
                box_deinit(b);
                memmove(b, b + 1, (size_t)(&t->boxes.v[t->boxes.n] - (b + 1)) * sizeof *b);
                t->boxes.n--;
                b = NULL;
        } else if (strcmp(verb, "rename") == 0) {
                snprintf(b->name, sizeof b->name, "%.63s", strtok_r(NULL, " ", &save));
                b->dumping = b->dumped = b->subscribed = b->active = false;
                b->script[0] = '\0';            /* that is another one's, by its name */
        } else if (strcmp(verb, "append") == 0) {
                uint32_t flags = (uint32_t)atoi(strtok_r(NULL, " ", &save));
                const char *brought = strtok_r(NULL, " ", &save);

                while ((word = strtok_r(NULL, " ", &save))) {
                        model_add(b, word, first_uid ? first_uid++ : 0, flags);
                        snprintf(b->msgs.v[b->msgs.n - 1].remark, sizeof remark, "%s", strcmp(brought, "-") == 0 ? "" : brought);
                }
        } else if (strcmp(verb, "remark") == 0 || strcmp(verb, "mine") == 0) {
                struct msg_model *m = model_msg(b, strtok_r(NULL, " ", &save));

                if (m)
                        snprintf(*verb == 'm' ? m->mine : m->remark, sizeof m->remark, "%s", strtok_r(NULL, " ", &save));
        } else if (strcmp(verb, "litter") == 0) {
                struct msg_model *m = model_msg(b, strtok_r(NULL, " ", &save));

                if (m)
                        m->litter = (unsigned)atoi(save);
        } else if (strcmp(verb, "annotate") == 0) {
                snprintf(b->comment, sizeof b->comment, "%s", strtok_r(NULL, " ", &save));
        } else if (strcmp(verb, "seen") == 0) {
                struct msg_model *m = model_msg(b, strtok_r(NULL, " ", &save));

                if (m)
                        *ARRAY_PUSH(&m->other) = (struct flag_at){ (uint32_t)atoi(save), time_us };
        } else if (strcmp(verb, "flags") == 0) {
                struct msg_model *m = model_msg(b, strtok_r(NULL, " ", &save));

                if (m)
                        *ARRAY_PUSH(&m->flags) = (struct flag_at){ (uint32_t)atoi(save), time_us };
        } else if (strcmp(verb, "copy") == 0 || strcmp(verb, "move") == 0) {
                bool move = *verb == 'm';

                snprintf(to_name, sizeof to_name, "%s", strtok_r(NULL, " ", &save));
                to = model_box(t, to_name);
                while ((word = strtok_r(NULL, " ", &save))) {
                        struct msg_model *m = model_msg(b, word), *copied;
                        char mine[32];

                        if (!m)
                                continue;
                        /* The copy carries the flags and the remarks of its moment, durably; what is moved the other's \Seen too. */
                        memcpy(remark, m->remark, sizeof remark);
                        memcpy(mine, m->mine, sizeof mine);
                        model_add(to, m->guid, first_uid ? first_uid++ : 0, m->flags.v[m->flags.n - 1].flags);
                        copied = &to->msgs.v[to->msgs.n - 1];
                        memcpy(copied->remark, remark, sizeof remark);
                        memcpy(copied->mine, mine, sizeof mine);
                        if (move) {
                                carry_seen(model_msg(b, word), copied, first_uid != 0);
                                model_remove(b, word, false);
                        }
                }
                b = to;
        } else if (strcmp(verb, "replace") == 0) {
                snprintf(to_name, sizeof to_name, "%s", strtok_r(NULL, " ", &save));
                word = strtok_r(NULL, " ", &save);
                model_remove(b, word, false);
                b = model_box(t, to_name);
                model_add(b, strtok_r(NULL, " ", &save), first_uid, 0);
        } else if (strcmp(verb, "expunge") == 0) {
                while ((word = strtok_r(NULL, " ", &save)))
                        model_remove(b, word, true);
        } else if (strcmp(verb, "script") == 0) {
                snprintf(b->script, sizeof b->script, "%s", strtok_r(NULL, " ", &save));
        } else if (strcmp(verb, "activate") == 0) {
                for (size_t i = 0; i < t->boxes.n; i++)
                        t->boxes.v[i].active = &t->boxes.v[i] == b;
        } else if (strcmp(verb, "deactivate") == 0) {
                for (size_t i = 0; i < t->boxes.n; i++)
                        t->boxes.v[i].active = false;
        } else if (strcmp(verb, "unscript") == 0) {
                b->script[0] = '\0';
                b->active = false;
        } else if (strcmp(verb, "apply") == 0) {
                struct msg_model *m = model_msg(b, strtok_r(NULL, " ", &save));
                uint32_t flags = (uint32_t)atoi(strtok_r(NULL, " ", &save));

                if (m) {                        /* durably, if it was acknowledged */
                        m->flags.n = 0;
                        *ARRAY_PUSH(&m->flags) = (struct flag_at){ flags, 0 };
                }
                model_remove(b, strtok_r(NULL, " ", &save), true);
                while ((word = strtok_r(NULL, " ", &save)))
                        model_add(b, word, first_uid ? first_uid++ : 0, 0);
        } else if (strcmp(verb, "restore") == 0) {
                while ((word = strtok_r(NULL, " ", &save)))
                        model_restore(b, word, first_uid ? first_uid++ : 0);
        }
        free(copy);
        return b;
}
