/*
 * urlkey - see urlkey.h. urlkeys.db has a record for each user and mailbox: key user id, NUL, unique id of the mailbox; value: the
 * format (1), then 32 random octets. A mailbox that is made again has another unique id, so what was given out for the former one stays
 * worthless; for the same reason records of mailboxes that are gone do no harm, and go when their user resets all.
 *
 * A token is one octet that names the algorithm (RFC 4467 2.4.1: so that it can be changed), 1: HMAC-SHA-256 over the rump URL.
 */
#include "store/urlkey.h"

#include <nettle/hmac.h>
#include <nettle/memops.h>

#include "store/mailbox.h"
#include "store/store_private.h"
#include "util/hash.h"

#define KEY_BYTES 32
#define VALUE_BYTES (1 + KEY_BYTES)
#define FORMAT_1 1
#define ALGORITHM_HMAC_SHA256 1

struct wanted {
        struct db *db;
        struct str key;
        bool make, replace;
        bool found;
        uint8_t value[VALUE_BYTES];
};

static void begin(struct wanted *w, struct store *store, const char *userid, const char *uniqueid)
{
        *w = (struct wanted){ .db = store ? store->urlkeys_db : NULL, .key = STR_INIT };
        str_append(&w->key, userid, strlen(userid) + 1);
        str_append_str(&w->key, uniqueid);
}

/* In a transaction. */
static int get_or_make(struct db_txn *txn, void *ctx, struct err *err)
{
        struct wanted *w = ctx;
        struct str value = STR_INIT;
        int rc = w->replace ? 0 : db_get(w->db, txn, str_span(&w->key), &value, err);

        w->found = rc == 1 && value.len == VALUE_BYTES && value.data[0] == FORMAT_1;
        if (w->found)
                memcpy(w->value, value.data, VALUE_BYTES);
        explicit_bzero(value.data, value.len);
        str_deinit(&value);
        if (rc < 0 || w->found || !w->make)
                return rc < 0 ? -1 : 0;
        w->value[0] = FORMAT_1;
        random_bytes(w->value + 1, KEY_BYTES);
        w->found = true;
        return db_put(w->db, txn, str_span(&w->key), (struct span){ (const char *)w->value, VALUE_BYTES }, err);
}

static int look_up(struct store *store, struct wanted *w, struct err *err)
{
        int rc;

        if (!w->db)
                return err_set(err, ERR_UNAVAILABLE, "urlkeys.db is not open");
        if (!w->replace) {                                      /* mostly it is there: no transaction */
                bool make = w->make;

                w->make = false;
                rc = get_or_make(NULL, w, err);
                w->make = make;
                if (rc < 0 || w->found)
                        return rc;
        }
        return db_run(store->env, true, get_or_make, w, err);
}

static void make_token(const uint8_t key[KEY_BYTES], struct span rump, uint8_t token_r[URLKEY_TOKEN_BYTES])
{
        struct hmac_sha256_ctx hmac;

        token_r[0] = ALGORITHM_HMAC_SHA256;
        hmac_sha256_set_key(&hmac, KEY_BYTES, key);
        hmac_sha256_update(&hmac, rump.len, (const uint8_t *)rump.p);
        hmac_sha256_digest(&hmac, URLKEY_TOKEN_BYTES - 1, token_r + 1);
        explicit_bzero(&hmac, sizeof hmac);
}

int urlkey_token(struct store *store, const char *userid, const char *uniqueid, struct span rump, uint8_t token_r[URLKEY_TOKEN_BYTES],
                 struct err *err)
{
        struct wanted w;
        int rc;

        begin(&w, store, userid, uniqueid);
        w.make = true;
        rc = look_up(store, &w, err);
        if (rc == 0)
                make_token(w.value + 1, rump, token_r);
        explicit_bzero(w.value, sizeof w.value);
        str_deinit(&w.key);
        return rc;
}

int urlkey_check(struct store *store, const char *userid, const char *uniqueid, struct span rump, const uint8_t *token, size_t token_n,
                 bool *valid_r, struct err *err)
{
        uint8_t mine[URLKEY_TOKEN_BYTES], given[URLKEY_TOKEN_BYTES] = { 0 };
        struct wanted w;
        int rc;

        begin(&w, store, userid, uniqueid ? uniqueid : "");
        rc = w.db ? get_or_make(NULL, &w, err) : err_set(err, ERR_UNAVAILABLE, "urlkeys.db is not open");
        if (!w.found)
                random_bytes(w.value, sizeof w.value);          /* a plausible one (RFC 4467 6) */
        make_token(w.value + 1, rump, mine);
        memcpy(given, token, token_n < sizeof given ? token_n : sizeof given);
        *valid_r = nettle_memeql_sec(mine, given, sizeof mine) && token_n == sizeof mine && w.found && uniqueid && rc == 0;
        explicit_bzero(w.value, sizeof w.value);
        explicit_bzero(mine, sizeof mine);
        str_deinit(&w.key);
        return rc;
}

static unsigned slot_of(const struct wanted *w)
{
        return (unsigned)(hash_keyed(w->key.data, w->key.len) % URLKEY_RESETS_N);
}

unsigned urlkey_slot(const char *userid, const char *uniqueid)
{
        struct wanted w;
        unsigned slot;

        begin(&w, NULL, userid, uniqueid);
        slot = slot_of(&w);
        str_deinit(&w.key);
        return slot;
}

uint32_t urlkey_resets(struct store *store, unsigned slot)
{
        return atomic_load(&store->urlkey_resets[slot]);
}

int urlkey_reset(struct store *store, const char *userid, const char *uniqueid, struct err *err)
{
        struct wanted w;
        int rc;

        begin(&w, store, userid, uniqueid);
        w.make = w.replace = true;
        rc = look_up(store, &w, err);
        if (rc == 0) {
                atomic_fetch_add(&store->urlkey_resets[slot_of(&w)], 1);
                mailbox_tell_watchers(store, uniqueid);
        }
        explicit_bzero(w.value, sizeof w.value);
        str_deinit(&w.key);
        return rc;
}

/* ---- all of a user's ---- */

static int remove_all(struct db_txn *txn, void *ctx, struct err *err)
{
        struct wanted *w = ctx;
        struct db_cursor *cursor;
        struct span key, value;
        struct str copy = STR_INIT;
        int rc;

        if (db_cursor_open(w->db, txn, str_span(&w->key), &cursor, err) < 0)
                return -1;
        while ((rc = db_cursor_next(cursor, &key, &value, err)) == 1) {
                str_clear(&copy);
                str_append_span(&copy, key);
                if ((rc = db_del(w->db, txn, str_span(&copy), err)) < 0)
                        break;
        }
        db_cursor_close(&cursor);
        str_deinit(&copy);
        return rc < 0 ? -1 : 0;
}

int urlkey_remove_all(struct store *store, const char *userid, struct err *err)
{
        struct wanted w;
        int rc;

        begin(&w, store, userid, "");
        rc = w.db ? db_run(store->env, true, remove_all, &w, err) : err_set(err, ERR_UNAVAILABLE, "urlkeys.db is not open");
        str_deinit(&w.key);
        return rc;
}
