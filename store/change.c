/* change - see change.h. The list of subscribers lives in the log store: a leaf lock, held while they are told. */
#include "store/change.h"

#include "store/mailbox_private.h"

/* A thread's, for the time of one call: who publishes is layers below who knows where the change comes from. */
static _Thread_local unsigned thread_marks;

unsigned change_mark(unsigned marks)
{
        unsigned was = thread_marks;

        thread_marks = marks;
        return was;
}

unsigned change_marks(void)
{
        return thread_marks;
}

static bool told_by_mailbox(const struct change *change)
{
        return change->kind == CHANGE_MAILBOX || change->kind == CHANGE_COPIED;
}

void change_subscribe(struct store *store, struct change_subscriber *s)
{
        struct change_feed *feed = logstore_feed(store_logstore(store));

        mutex_lock(&feed->lock);
        s->next = feed->first;
        feed->first = s;
        mutex_unlock(&feed->lock);
}

void change_unsubscribe(struct store *store, struct change_subscriber *s)
{
        struct change_feed *feed = logstore_feed(store_logstore(store));

        mutex_lock(&feed->lock);
        for (struct change_subscriber **p = &feed->first; *p; p = &(*p)->next) {
                if (*p == s) {
                        *p = s->next;
                        break;
                }
        }
        mutex_unlock(&feed->lock);
}

void change_want_entries(struct store *store, bool wanted)
{
        struct logstore *ls = store_logstore(store);

        if (ls)
                atomic_fetch_add(&logstore_feed(ls)->entries_wanted, wanted ? 1 : -1);
}

bool change_entries_wanted(struct store *store)
{
        struct logstore *ls = store_logstore(store);

        return ls && atomic_load_explicit(&logstore_feed(ls)->entries_wanted, memory_order_relaxed) > 0;
}

void change_publish(struct store *store, const struct change *change)
{
        struct logstore *ls = store_logstore(store);
        struct change_feed *feed;
        struct change marked;

        if (!ls)                                        /* names change before the log store is there, and after */
                return;
        feed = logstore_feed(ls);
        if (thread_marks && !told_by_mailbox(change)) {
                marked = *change;
                marked.marks |= thread_marks;
                change = &marked;
        }
        mutex_lock(&feed->lock);
        for (struct change_subscriber *s = feed->first; s; s = s->next)
                s->fn(s->ctx, change);
        mutex_unlock(&feed->lock);
}
