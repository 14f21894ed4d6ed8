/*
 * duplicate - see duplicate.h; here claims, and the table in memory that says which keys may have a mark.
 *
 * The table has eight octets a mark: half of a keyed hash, and where the record is. Nearly all messages are new, and this says so without
 * reading anything. A hit is compared with the whole record – from memory while that is not yet written, else from its file, by
 * duplicate_look() –, for a wrong one would lose a message.
 */
#include "store/duplicate_private.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/clock.h"
#include "util/hash.h"
#include "util/must.h"

#define SLOTS_MIN 64u

/* ---- keys ---- */

static bool is_blank(char c)
{
        return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Each run of blanks counts as one space: a field that was folded otherwise on its way is the same one. */
static void digest_value(struct digest *h, struct span value)
{
        value = span_trim(value);
        while (value.len) {
                size_t word = 0, blanks;

                while (word < value.len && !is_blank(value.p[word]))
                        word++;
                for (blanks = word; blanks < value.len && is_blank(value.p[blanks]); blanks++)
                        ;
                digest_update(h, value.p, word);
                digest_update(h, " ", blanks > word);
                value.p += blanks;
                value.len -= blanks;
        }
        digest_update(h, "", 1);
}

void duplicate_key_make(const char *uniqueid, struct span id, struct span date, struct duplicate_key *key_r)
{
        uint8_t out[GUID_SIZE];
        struct digest h;

        digest_init(&h);
        digest_update(&h, uniqueid, strlen(uniqueid) + 1);
        digest_value(&h, id);
        digest_value(&h, date);
        digest_final(&h, out);
        memcpy(key_r->message, out, sizeof key_r->message);
        digest_init(&h);
        digest_update(&h, uniqueid, strlen(uniqueid));
        digest_final(&h, out);
        memcpy(key_r->mailbox, out, sizeof key_r->mailbox);
}

static bool same_key(const struct duplicate_key *a, const struct duplicate_key *b)
{
        return memcmp(a->message, b->message, sizeof a->message) == 0;
}

/* ---- the table ---- */

struct dup_shard *dup_shard_of(struct duplicates *d, const struct duplicate_key *key, uint32_t *tag_r)
{
        uint64_t h = hash_keyed(key->message, sizeof key->message);

        *tag_r = (uint32_t)(h >> 32);
        return &d->shards[h % DUP_SHARDS];
}

static void put_slot(struct dup_slot *slots, uint32_t cap, struct dup_slot slot)
{
        uint32_t i = slot.tag & (cap - 1);

        while (slots[i].where)
                i = (i + 1) & (cap - 1);
        slots[i] = slot;
}

void dup_insert_locked(struct dup_shard *s, uint32_t tag, uint32_t where)
{
        mutex_assert_held(&s->lock);
        if (s->n + 1 > s->cap / 4 * 3) {
                uint32_t cap = s->cap ? s->cap * 2 : SLOTS_MIN;
                struct dup_slot *slots = xcalloc(cap, sizeof *slots);

                for (uint32_t i = 0; i < s->cap; i++)
                        if (s->slots[i].where)
                                put_slot(slots, cap, s->slots[i]);
                free(s->slots);
                s->slots = slots;
                s->cap = cap;
        }
        put_slot(s->slots, s->cap, (struct dup_slot){ tag, where });
        s->n++;
}

/* ---- claims ---- */

static struct duplicate_claim **bucket_of(struct dup_shard *s, const struct duplicate_key *key)
{
        return &s->claims[key->message[0] % DUP_BUCKETS];
}

static struct duplicate_claim *find_claim_locked(struct dup_shard *s, const struct duplicate_key *key) REQUIRES(s->lock, duplicate_class);
static struct duplicate_claim *find_claim_locked(struct dup_shard *s, const struct duplicate_key *key)
{
        struct duplicate_claim *c = *bucket_of(s, key);

        while (c && !same_key(&c->key, key))
                c = c->next;
        return c;
}

/* Takes the claim off; returns the claims that waited for it. */
static struct duplicate_claim *end_claim_locked(struct dup_shard *s, struct duplicate_claim *claim) REQUIRES(s->lock, duplicate_class);
static struct duplicate_claim *end_claim_locked(struct dup_shard *s, struct duplicate_claim *claim)
{
        struct duplicate_claim **at = bucket_of(s, &claim->key);

        while (*at && *at != claim)
                at = &(*at)->next;
        must(*at == claim);
        *at = claim->next;
        return claim->waiting;
}

/* No lock held. A claim may be gone as soon as its waiter is done. */
static void wake(struct duplicate_claim *list)
{
        while (list) {
                struct duplicate_claim *next = list->next;

                waiter_done(list->waiter, NULL);
                list = next;
        }
}

static bool found(struct duplicates *d, struct duplicate_claim *claim, const struct dup_record *record)
{
        if (!same_key(&claim->key, &record->key))
                return false;
        claim->found_uid = record->uid;
        claim->found_at = record->at;
        atomic_fetch_add(&d->suppressed, 1);
        return true;
}

/* Marks whose hash fits: a pending one is compared, others become candidates. */
static bool search_locked(struct duplicates *d, struct dup_shard *s, struct duplicate_claim *claim, uint32_t tag)
        REQUIRES(s->lock, duplicate_class);
static bool search_locked(struct duplicates *d, struct dup_shard *s, struct duplicate_claim *claim, uint32_t tag)
{
        struct dup_record record;

        claim->candidates_n = 0;
        for (uint32_t i = tag & (s->cap - 1); s->cap && s->slots[i].where; i = (i + 1) & (s->cap - 1)) {
                if (s->slots[i].tag != tag)
                        continue;
                if (dup_find_pending(d, s->slots[i].where, &record)) {
                        if (found(d, claim, &record))
                                return true;
                } else if (claim->candidates_n < sizeof claim->candidates / sizeof claim->candidates[0]) {
                        claim->candidates[claim->candidates_n++] = s->slots[i].where;
                }
        }
        return false;
}

/* The files are still being read. false: that is over by now. */
static bool wait_for_load(struct duplicates *d, struct duplicate_claim *claim) EXCLUDES(duplicate_file_class);
static bool wait_for_load(struct duplicates *d, struct duplicate_claim *claim)
{
        bool wait;

        dup_lock(d);
        wait = d->loading;
        if (wait) {
                claim->next = d->for_load;
                d->for_load = claim;
        }
        dup_unlock(d);
        return wait;
}

enum duplicate duplicate_claim(struct store *store, struct duplicate_claim *claim, struct waiter *waiter)
{
        struct duplicates *d = store->duplicates;
        struct duplicate_claim *other;
        enum duplicate answer = DUPLICATE_NEW;
        struct dup_shard *s;
        uint32_t tag;

        claim->next = claim->waiting = NULL;
        claim->waiter = waiter;
        claim->candidates_n = 0;
        if (!atomic_load(&d->loaded)) {
                if (wait_for_load(d, claim))
                        return DUPLICATE_WAIT;
                dup_load(d);
        }
        s = dup_shard_of(d, &claim->key, &tag);
        dup_shard_lock(s);
        other = find_claim_locked(s, &claim->key);
        if (other) {
                claim->next = other->waiting;
                other->waiting = claim;
                answer = DUPLICATE_WAIT;
        } else if (search_locked(d, s, claim, tag)) {
                answer = DUPLICATE_SEEN;
        } else {
                claim->next = *bucket_of(s, &claim->key);
                *bucket_of(s, &claim->key) = claim;
                if (claim->candidates_n)
                        answer = DUPLICATE_LOOK;
        }
        dup_shard_unlock(s);
        return answer;
}

enum duplicate duplicate_look(struct store *store, struct duplicate_claim *claim)
{
        struct duplicates *d = store->duplicates;

        for (unsigned i = 0; i < claim->candidates_n; i++) {
                struct dup_record record;

                if (dup_read(d, claim->candidates[i], &record) && found(d, claim, &record)) {
                        duplicate_dropped(store, claim);
                        return DUPLICATE_SEEN;
                }
        }
        return DUPLICATE_NEW;
}

void duplicate_delivered(struct store *store, struct duplicate_claim *claim, uint32_t uid)
{
        struct duplicates *d = store->duplicates;
        struct dup_record record = { .key = claim->key, .at = clock_wall_s(), .uid = uid };
        struct duplicate_claim *waiting;
        struct dup_shard *s;
        uint32_t tag, where;

        s = dup_shard_of(d, &claim->key, &tag);
        dup_shard_lock(s);
        where = store->readonly ? 0 : dup_append(d, &record);
        if (where) {
                dup_insert_locked(s, tag, where);
                atomic_fetch_add(&d->marks, 1);
        }
        waiting = end_claim_locked(s, claim);
        dup_shard_unlock(s);
        wake(waiting);
        if (!where)
                return;
        atomic_fetch_add(&d->delivered, 1);
        (void)dup_write(d, NULL);
        dup_shrink_if_needed(d);
}

void duplicate_dropped(struct store *store, struct duplicate_claim *claim)
{
        struct duplicates *d = store->duplicates;
        struct duplicate_claim *waiting;
        struct dup_shard *s;
        uint32_t tag;

        s = dup_shard_of(d, &claim->key, &tag);
        dup_shard_lock(s);
        waiting = end_claim_locked(s, claim);
        dup_shard_unlock(s);
        wake(waiting);
}

void duplicate_stats(struct store *store, struct duplicate_stats *stats_r)
{
        struct duplicates *d = store->duplicates;

        stats_r->marks = atomic_load(&d->marks);
        stats_r->suppressed = atomic_load(&d->suppressed);
        stats_r->delivered = atomic_load(&d->delivered);
}

/* ---- opening and closing ---- */

static void load_job(struct job *job)
{
        dup_load((struct duplicates *)((char *)job - offsetof(struct duplicates, load)));
}

int duplicates_create(struct store *store, struct duplicates **d_r)
{
        struct duplicates *d = xcalloc(1, sizeof *d);
        struct str dir = STR_INIT;

        d->store = store;
        str_printf(&dir, "%s/duplicates", store->configdir);
        d->dir = str_take(&dir);
        mutex_init(&d->pruning);
        mutex_init(&d->lock);
        cond_init(&d->loaded_wake);
        for (unsigned i = 0; i < DUP_SHARDS; i++)
                mutex_init(&d->shards[i].lock);
        d->load.fn = load_job;
        d->shrink.fn = dup_shrink_job;
        d->shrink.slow = true;
        *d_r = d;
        return 0;
}

void duplicates_start(struct duplicates *d)
{
        if (!logstore_threaded(d->store->ls))
                return;                         /* tools: when somebody asks */
        dup_lock(d);
        d->loading = true;
        dup_unlock(d);
        logstore_run(d->store->ls, &d->load);
}

void duplicates_destroy(struct duplicates **dp)
{
        struct duplicates *d = *dp;

        *dp = NULL;
        if (!d)
                return;
        while (d->pending.n && dup_write(d, NULL) == 0)
                ;
        for (unsigned i = 0; i < DUP_SHARDS; i++) {
                for (unsigned b = 0; b < DUP_BUCKETS; b++)
                        must(!d->shards[i].claims[b]);  /* somebody has not said what became of a message */
                free(d->shards[i].slots);
                mutex_deinit(&d->shards[i].lock);
        }
        for (unsigned i = 1; i <= DUP_SEGMENTS_MAX; i++) {
                if (d->segments[i] && d->segments[i]->fd >= 0)
                        close(d->segments[i]->fd);
                free(d->segments[i]);
        }
        ARRAY_FREE(&d->pending);
        cond_deinit(&d->loaded_wake);
        mutex_deinit(&d->lock);
        mutex_deinit(&d->pruning);
        free(d->dir);
        free(d);
}
