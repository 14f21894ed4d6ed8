/*
 * progress - a command that takes long says how far it is (RFC 9585), or at least that it goes on.
 *
 * What is known of it stands in imap->cmd.progress: a handler sets it that works in slices, and the store, where it is told of it. The loop
 * tells it: while a command waits, and between its slices if it has set anything – then there is no line begun in the rope.
 */
#include "server/imap/imap_private.h"

#include <inttypes.h>

#include "util/clock.h"

/* When it is next to be told (clock_mono_us()); 0: never. */
static uint64_t due_us(const struct imap *imap)
{
        int64_t interval_s = conf_duration_s(imap->conf, imap_service(imap), "imap_inprogress_interval");
        uint64_t since = imap->cmd.told_us ? imap->cmd.told_us : imap->cmd.started_us;

        if (interval_s <= 0 || imap->state == IMAP_NOT_AUTH || imap->cmd.line_begun)
                return 0;
        return since + (uint64_t)interval_s * 1000000;
}

static void put_state(struct imap *imap)
{
        uint64_t done = atomic_load_explicit(&imap->cmd.progress.done, memory_order_relaxed);
        uint64_t total = atomic_load_explicit(&imap->cmd.progress.total, memory_order_relaxed);

        if (total)                                              /* RFC 9585 4: what is reached is below the goal */
                imap_put(imap, " %" PRIu64 " %" PRIu64, done < total ? done : total - 1, total);
        else if (done)
                imap_put(imap, " %" PRIu64 " NIL", done);
        else
                imap_put(imap, " NIL NIL");
}

void imap_progress_tell(struct imap *imap)
{
        uint64_t now = clock_mono_us(), due = due_us(imap);
        struct span tag = imap->cmd.tag;

        if (!due || now < due)
                return;
        imap->cmd.told_us = now;
        imap_put(imap, "* OK [INPROGRESS (");
        if (memchr(tag.p, ']', tag.len))                        /* RFC 9585 4: it would end the response code */
                imap_put(imap, "NIL");
        else
                imap_put_string(imap, tag);
        put_state(imap);
        imap_put(imap, ")] %s%s is in progress\r\n", imap->cmd.uid ? "UID " : "", imap->cmd.cmd->name);
}

uint32_t imap_progress_ms(const struct imap *imap)
{
        uint64_t now = clock_mono_us(), due = due_us(imap);

        if (!due)
                return 0;
        return due > now ? (uint32_t)((due - now + 999) / 1000) : 1;
}
