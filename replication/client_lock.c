/*
 * client_lock - who is at which user of which replica: two at once would each find what the other has just changed (IMAP_SYNC_CHANGED). In this
 * process only; a store has one. Waiting asks `stop` as the connection does.
 */
#include "replication/client_private.h"

#include <stdlib.h>

#include "util/clock.h"
#include "util/lock.h"
#include "util/must.h"

#define TURN_MS 250

static struct mutex lock = MUTEX_INIT;          /* a leaf; of: */
static struct table *held;                      /* "peer<LF>owner" → who holds it */

static void wait_a_turn(void)
{
        struct timespec t = { .tv_nsec = TURN_MS * 1000000L };

        nanosleep(&t, NULL);
}

static struct span key_of(const struct client *c, const char *owner, struct str *key)
{
        str_printf(key, "%s\n%s", c->peer, owner ? owner : "");
        return str_span(key);
}

static bool try_hold(struct client *c, struct span key)
{
        bool mine;

        mutex_lock(&lock);
        if (!held)
                held = table_create();
        mine = table_find(held, key) == NULL;
        if (mine)
                table_set(held, key, c);
        mutex_unlock(&lock);
        return mine;
}

enum client_result client_lock_user(struct client *c, const char *owner, struct err *err)
{
        struct str key = STR_INIT;
        struct span k = key_of(c, owner, &key);
        enum client_result r = client_check(c, err);

        while (r == CLIENT_OK && !try_hold(c, k)) {
                if (c->options.no_wait) {
                        err_set(err, ERR_BUSY, "somebody else is at it");
                        r = CLIENT_PUT_OFF;
                        break;
                }
                wait_a_turn();
                r = client_check(c, err);
        }
        str_deinit(&key);
        return r;
}

void client_unlock_user(struct client *c, const char *owner)
{
        struct str key = STR_INIT;
        struct span k = key_of(c, owner, &key);

        mutex_lock(&lock);
        must(table_find(held, k) == c);
        table_set(held, k, NULL);
        if (table_count(held) == 0)
                table_destroy(&held);
        mutex_unlock(&lock);
        str_deinit(&key);
}
