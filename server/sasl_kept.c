/*
 * sasl_kept - passwords that were right. Checking one against sasldb opens and reads the database twice, more than all else that a log-in
 * does. So what was right is kept, as an HMAC under a key of this process, and counts as long as the file is the one that it was checked
 * against: who changes or removes a password changes the file. The HMAC is what is looked for; how long that takes says nothing of a password
 * to anybody without the key. See sasl_private.h.
 */
#include "server/sasl_private.h"

#include <nettle/hmac.h>
#include <stdlib.h>

#include "util/clock.h"
#include "util/fs.h"
#include "util/hash.h"
#include "util/lock.h"
#include "util/must.h"

#define KEPT_MAX 10000                          /* passwords; beyond that all are forgotten */
#define SETTLED_S 2                             /* a file that was changed before so long has another time when it is changed again */

struct kept {
        struct fs_mark file;
        char *userid, *authid;
};

/* One set for the process, as the library is. A leaf. */
static struct {
        struct mutex lock;                      /* covers all below */
        struct table *right;                    /* digest → struct kept */
        struct hmac_sha256_ctx keyed;           /* with the key */
} known = { .lock = MUTEX_INIT };

static void forget(struct kept *k)
{
        if (!k)
                return;
        free(k->userid);
        free(k->authid);
        free(k);
}

static void forget_all(void)
{
        struct span digest;
        void *value;
        size_t pos = 0;

        while (known.right && table_next(known.right, &pos, &digest, &value))
                forget(value);
        table_destroy(&known.right);
}

/* NULL: other verifiers or plug-ins may have a say, or (imapd -N) passwords are not looked at. */
static const char *database_of(const struct sasl_conn *c)
{
        const char *method = sasl_option(c->conf, c->ident, NULL, "pwcheck_method");
        const char *plugin = sasl_option(c->conf, c->ident, NULL, "auxprop_plugin");

        if (c->no_password_check || !method || strcmp(method, "auxprop") != 0 || !plugin || strcmp(plugin, "sasldb") != 0)
                return NULL;
        return sasl_option(c->conf, c->ident, NULL, "sasldb_path");
}

static bool look_at(const char *path, struct fs_mark *file)
{
        return fs_mark(path, file) && file->changed.tv_sec + SETTLED_S <= clock_wall_s();
}

static void make_key_locked(void)
{
        uint8_t key[SASL_KEPT_DIGEST];

        random_bytes(key, sizeof key);
        hmac_sha256_set_key(&known.keyed, sizeof key, key);
        explicit_bzero(key, sizeof key);
}

static void digest_of(const struct sasl_conn *c, const char *user, struct span password, uint8_t digest[SASL_KEPT_DIGEST])
{
        struct hmac_sha256_ctx hmac;

        mutex_lock(&known.lock);
        if (!known.right) {
                known.right = table_create();
                make_key_locked();
        }
        hmac = known.keyed;
        mutex_unlock(&known.lock);
        hmac_sha256_update(&hmac, strlen(c->ident) + 1, (const uint8_t *)c->ident);
        hmac_sha256_update(&hmac, strlen(user) + 1, (const uint8_t *)user);
        hmac_sha256_update(&hmac, password.len, (const uint8_t *)password.p);
        hmac_sha256_digest(&hmac, SASL_KEPT_DIGEST, digest);
        explicit_bzero(&hmac, sizeof hmac);
}

bool sasl_kept_find(const struct sasl_conn *c, const char *user, struct span password, struct sasl_kept *k)
{
        const char *path = database_of(c);
        struct kept *found, *stale = NULL;

        *k = (struct sasl_kept){ .usable = false };
        k->usable = path && look_at(path, &k->file);
        if (!k->usable)
                return false;
        digest_of(c, user, password, k->digest);
        mutex_lock(&known.lock);
        found = known.right ? table_find(known.right, (struct span){ (const char *)k->digest, sizeof k->digest }) : NULL;
        if (found && memcmp(&found->file, &k->file, sizeof k->file) != 0) {
                stale = table_set(known.right, (struct span){ (const char *)k->digest, sizeof k->digest }, NULL);
                found = NULL;
        }
        if (found) {
                k->userid = xstrdup(found->userid);
                k->authid = xstrdup(found->authid);
        }
        mutex_unlock(&known.lock);
        forget(stale);
        return found != NULL;
}

void sasl_kept_keep(const struct sasl_kept *k, const char *userid, const char *authid)
{
        struct kept *entry;

        if (!k->usable)
                return;
        entry = xcalloc(1, sizeof *entry);
        entry->file = k->file;
        entry->userid = xstrdup(userid);
        entry->authid = xstrdup(authid);
        mutex_lock(&known.lock);
        if (known.right && table_count(known.right) >= KEPT_MAX)
                forget_all();
        if (known.right)
                entry = table_set(known.right, (struct span){ (const char *)k->digest, sizeof k->digest }, entry);
        mutex_unlock(&known.lock);
        forget(entry);
}

void sasl_kept_forget(void)
{
        mutex_lock(&known.lock);
        forget_all();
        explicit_bzero(&known.keyed, sizeof known.keyed);
        mutex_unlock(&known.lock);
}
