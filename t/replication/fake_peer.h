/*
 * fake_peer - a replica for tests of rolling replication: it notes what it is asked, and fails, hangs up, is locked, says nothing as it is told to.
 * The including program links none of client.h's functions.
 */
#ifndef T_REPLICATION_FAKE_PEER_H
#define T_REPLICATION_FAKE_PEER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "replication/rolling.h"
#include "util/lock.h"
#include "util/must.h"
#include "util/str.h"

struct client { struct client_options options; };

static struct fake {
        struct mutex lock;
        struct str said;                        /* what it was asked, an item a line; NOOP and RESTART are not noted */
        char fails[100], hangs_up[100], locked[100], slow[100], stalls[100]; /* items with this text in them; "" none */
        bool refuses;                           /* connections */
        bool silent;                            /* does not answer NOOP */
        bool dies_at_noop;
        unsigned opened, asked;
} fake = { .lock = MUTEX_INIT, .said = STR_INIT };

static inline void fake_set(char *field, const char *text)
{
        mutex_lock(&fake.lock);
        snprintf(field, 100, "%s", text);
        mutex_unlock(&fake.lock);
}

/* What it was asked so far, for free(); it is then forgotten. */
static inline char *fake_take(void)
{
        char *said;

        mutex_lock(&fake.lock);
        said = str_take(&fake.said);
        mutex_unlock(&fake.lock);
        return said;
}

static inline int fake_open(const struct client_options *o, struct client **c, struct err *err)
{
        bool refuses;

        mutex_lock(&fake.lock);
        refuses = fake.refuses;
        fake.opened += !refuses;
        mutex_unlock(&fake.lock);
        if (refuses)
                return err_set(err, ERR_UNAVAILABLE, "nobody there");
        *c = xcalloc(1, sizeof **c);
        (*c)->options = *o;
        return 0;
}

static inline void fake_close(struct client **c)
{
        free(*c);
        *c = NULL;
}

static inline const char *fake_name(const struct client *c)
{
        (void)c;
        return "fake:2005 csync";
}

static inline void fake_traffic(const struct client *c, struct client_traffic *t)
{
        (void)c;
        *t = (struct client_traffic){ .sent = 10, .received = 20 };
}

static inline enum client_result fake_noop(struct client *c, struct err *err)
{
        bool silent, dies;

        mutex_lock(&fake.lock);
        silent = fake.silent;
        dies = fake.dies_at_noop;
        mutex_unlock(&fake.lock);
        while (silent && !c->options.stop(c->options.ctx))
                usleep(20000);
        if (dies)
                return err_set(err, ERR_CLOSED, "hung up"), CLIENT_LOST;
        return silent ? CLIENT_STOPPED : CLIENT_OK;
}

static inline enum client_result fake_restart(struct client *c, struct err *err)
{
        (void)c;
        (void)err;
        return CLIENT_OK;
}

static inline bool fake_has(const char *text, const char *what)
{
        return *what && strstr(text, what);
}

/* The answer to one item, whose text is noted. */
static inline enum client_result fake_answer(struct client *c, struct err *err, const char *text)
{
        enum client_result result = CLIENT_OK;
        bool slow, stalls;

        mutex_lock(&fake.lock);
        fake.asked++;
        str_printf(&fake.said, "%s\n", text);
        if (fake_has(text, fake.hangs_up))
                result = CLIENT_LOST;
        else if (fake_has(text, fake.fails))
                result = CLIENT_FAILED;
        else if (fake_has(text, fake.locked))
                result = CLIENT_PUT_OFF;
        slow = fake_has(text, fake.slow);
        stalls = fake_has(text, fake.stalls);
        mutex_unlock(&fake.lock);
        if (stalls) {
                while (!c->options.stop(c->options.ctx))
                        usleep(10000);
                return CLIENT_STOPPED;
        }
        if (slow)
                usleep(300000);
        if (result == CLIENT_LOST)
                err_set(err, ERR_CLOSED, "connection closed");
        else if (result == CLIENT_FAILED)
                err_set(err, ERR_INTERNAL, "IMAP_MAILBOX_NOTSUPPORTED Operation is not supported on mailbox");
        else if (result == CLIENT_PUT_OFF)
                err_set(err, ERR_BUSY, "IMAP_MAILBOX_LOCKED Mailbox locked");
        return result;
}

static inline enum client_result fake_mailboxes(struct client *c, const char *const *names, size_t n, struct err *err)
{
        struct str text = STR_INIT;
        enum client_result result;

        str_append_str(&text, "MAILBOXES");
        for (size_t i = 0; i < n; i++)
                str_printf(&text, " %s", names[i]);
        result = fake_answer(c, err, text.data);
        str_deinit(&text);
        return result;
}

static inline enum client_result fake_item(struct client *c, const char *what, const char *a, const char *b, struct err *err)
{
        struct str text = STR_INIT;
        enum client_result result;

        str_printf(&text, "%s %s%s%s", what, a, b ? " " : "", b ? b : "");
        result = fake_answer(c, err, text.data);
        str_deinit(&text);
        return result;
}

#define FAKE_ONE(name, WORD) \
        static inline enum client_result name(struct client *c, const char *a, struct err *err) { return fake_item(c, WORD, a, NULL, err); }
#define FAKE_TWO(name, WORD) \
        static inline enum client_result name(struct client *c, const char *a, const char *b, struct err *err) \
        { return fake_item(c, WORD, a, b, err); }
FAKE_ONE(fake_user, "USER")
FAKE_ONE(fake_meta, "META")
FAKE_ONE(fake_quota, "QUOTA")
FAKE_ONE(fake_annotation, "ANNOTATION")
FAKE_ONE(fake_unmailbox, "UNMAILBOX")
FAKE_ONE(fake_unuser, "UNUSER")
FAKE_TWO(fake_seen, "SEEN")
FAKE_TWO(fake_sub, "SUB")

static const struct rolling_peer fake_peer = { fake_open, fake_close, fake_name, fake_traffic, fake_noop, fake_restart, fake_user, fake_mailboxes, fake_meta,
                                               fake_quota, fake_annotation, fake_seen, fake_sub, fake_unmailbox, fake_unuser };

#endif
