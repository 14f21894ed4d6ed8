/* tls_certs - see tls_certs.h: files read, names sorted, credentials made. */
#include "server/tls_certs.h"

#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "util/array.h"
#include "util/fs.h"
#include "util/log.h"
#include "util/must.h"
#include "util/str.h"

#define PEM_MAX ((size_t)1024 * 1024)
#define CHAIN_MAX 16u
#define NAMES_MAX 1024u                         /* of one certificate */
#define NAME_MAX_LEN 255u                       /* RFC 1035 2.3.4 */

struct cert {
        gnutls_x509_crt_t list[CHAIN_MAX];      /* its own, then who signed it …; they belong to `files` */
        unsigned list_n;
        gnutls_x509_privkey_t key;
        ARRAY(char *) names;                    /* in lower case; "*.example.org" is one */
        size_t last_set;                        /* of those of which it is the first */
};

/* A name of a certificate. What one name's certificates are, the entries in a row tell; the first of them has the credentials. */
struct name {
        const char *name;                       /* the certificate's */
        size_t cert, set;
};

#define NO_SET SIZE_MAX
struct set {
        size_t at, n;                           /* entries of `names`: these certificates */
        size_t earlier;                         /* the next one with the same first certificate, or NO_SET */
        gnutls_certificate_credentials_t credentials;
};

struct tls_certs {
        ARRAY(struct cert) certs;               /* those of tls_server_cert first */
        size_t listed;                          /* how many these are */
        ARRAY(struct name) names;               /* sorted by name, then certificate */
        ARRAY(struct set) sets;                 /* none where there is but one certificate */
        ARRAY(struct tls_chain) files;
        gnutls_certificate_credentials_t fallback;
};

/* ---- files ---------------------------------------------------------------------------------------------------------------- */

/* Whatever is wrong with a file is the configuration's. */
static int pem_read(const char *path, struct str *pem, gnutls_datum_t *d, struct err *err)
{
        if (fs_slurp(path, PEM_MAX, pem, err) < 0) {
                str_deinit(pem);
                err->code = ERR_CONFIG;
                return -1;
        }
        d->data = (unsigned char *)pem->data;
        d->size = (unsigned)pem->len;
        return 0;
}

void tls_chain_free(struct tls_chain *c)
{
        for (unsigned i = 0; i < c->n; i++)
                gnutls_x509_crt_deinit(c->v[i]);
        gnutls_free(c->v);
        c->v = NULL;
        c->n = 0;
}

int tls_chain_load(const char *path, struct tls_chain *c, struct err *err)
{
        struct str pem = STR_INIT;
        gnutls_datum_t d;
        int rc;

        if (pem_read(path, &pem, &d, err) < 0)
                return -1;
        rc = gnutls_x509_crt_list_import2(&c->v, &c->n, &d, GNUTLS_X509_FMT_PEM, 0);
        str_deinit(&pem);
        if (rc >= 0)
                return 0;
        c->v = NULL;
        c->n = 0;
        return err_set(err, ERR_CONFIG, "%s: %s", path, gnutls_strerror(rc));
}

static int key_load(const char *path, gnutls_x509_privkey_t *key_r, struct err *err)
{
        struct str pem = STR_INIT;
        gnutls_datum_t d;
        int rc;

        if (pem_read(path, &pem, &d, err) < 0)
                return -1;
        rc = gnutls_x509_privkey_init(key_r);
        if (rc == 0) {
                rc = gnutls_x509_privkey_import2(*key_r, &d, GNUTLS_X509_FMT_PEM, NULL, 0);
                if (rc < 0)
                        gnutls_x509_privkey_deinit(*key_r);
        }
        explicit_bzero(pem.data, pem.len);
        str_deinit(&pem);
        if (rc == 0)
                return 0;
        *key_r = NULL;
        return err_set(err, ERR_CONFIG, "%s: %s", path, gnutls_strerror(rc));
}

/* ---- one certificate ------------------------------------------------------------------------------------------------------ */

static void cert_free(struct cert *c)
{
        if (c->key)
                gnutls_x509_privkey_deinit(c->key);
        for (size_t i = 0; i < c->names.n; i++)
                free(c->names.v[i]);
        ARRAY_FREE(&c->names);
}

/* Which of the certificates in `more` signed `crt`? NULL: none, or it is its own. */
static gnutls_x509_crt_t issuer_of(gnutls_x509_crt_t crt, const struct tls_chain *more)
{
        if (gnutls_x509_crt_check_issuer(crt, crt))
                return NULL;
        for (unsigned i = 0; i < more->n; i++)
                if (gnutls_x509_crt_check_issuer(crt, more->v[i]))
                        return more->v[i];
        return NULL;
}

static void add_name(struct cert *c, char *name, size_t len)
{
        if (len == 0 || len > NAME_MAX_LEN || memchr(name, '\0', len))
                return;
        for (size_t i = 0; i < len; i++)
                name[i] = ascii_lower(name[i]);
        *ARRAY_PUSH(&c->names) = xstrndup(name, len);
}

/* RFC 6125 6.4.4: the common name counts only where there is no DNS name. */
static void read_names(struct cert *c)
{
        char name[NAME_MAX_LEN + 2];
        size_t size;
        unsigned critical;

        for (unsigned i = 0; i < NAMES_MAX; i++) {
                int rc;

                size = sizeof name;
                rc = gnutls_x509_crt_get_subject_alt_name(c->list[0], i, name, &size, &critical);
                if (rc == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
                        break;
                if (rc == GNUTLS_SAN_DNSNAME)
                        add_name(c, name, size);
        }
        size = sizeof name;
        if (c->names.n == 0 && gnutls_x509_crt_get_dn_by_oid(c->list[0], GNUTLS_OID_X520_COMMON_NAME, 0, 0, name, &size) == 0)
                add_name(c, name, size);
}

/* Does the key belong to the certificate? Told now, with the names of the files, and not by every handshake. */
static int check_pair(struct cert *c, const char *cert_path, const char *key_path, struct err *err)
{
        unsigned char a[64], b[64];
        size_t a_len = sizeof a, b_len = sizeof b;

        if (gnutls_x509_crt_get_key_id(c->list[0], GNUTLS_KEYID_USE_SHA256, a, &a_len) < 0 ||
            gnutls_x509_privkey_get_key_id(c->key, GNUTLS_KEYID_USE_SHA256, b, &b_len) < 0 || a_len != b_len || memcmp(a, b, a_len) != 0)
                return err_set(err, ERR_CONFIG, "%s is not the key of %s", key_path, cert_path);
        return 0;
}

/* The certificate, what follows it in its file, and what `more` adds until there is no issuer. */
static int add_pair(struct tls_certs *t, const char *cert_path, const char *key_path, const struct tls_chain *more, struct err *err)
{
        struct tls_chain own = { NULL, 0 };
        struct cert c = { .last_set = NO_SET };
        gnutls_x509_crt_t next;

        if (tls_chain_load(cert_path, &own, err) < 0)
                return -1;
        if (own.n == 0 || own.n > CHAIN_MAX) {
                err_set(err, ERR_CONFIG, "%s: %u certificates", cert_path, own.n);
                goto fail;
        }
        for (; c.list_n < own.n; c.list_n++)
                c.list[c.list_n] = own.v[c.list_n];
        while (c.list_n < CHAIN_MAX && (next = issuer_of(c.list[c.list_n - 1], more)) != NULL)
                c.list[c.list_n++] = next;
        if (key_load(key_path, &c.key, err) < 0 || check_pair(&c, cert_path, key_path, err) < 0)
                goto fail;
        read_names(&c);
        *ARRAY_PUSH(&t->files) = own;
        *ARRAY_PUSH(&t->certs) = c;
        return 0;
fail:
        cert_free(&c);
        tls_chain_free(&own);
        return -1;
}

/* ---- what the options name ------------------------------------------------------------------------------------------------ */

/* The next of the paths separated by commas, copied; NULL: no more. */
static char *next_path(const char **list)
{
        for (;;) {
                const char *from = *list;
                size_t len = strcspn(from, ",");
                struct span path = span_trim((struct span){ from, len });

                if (*from == '\0')
                        return NULL;
                *list = from + len + (from[len] == ',');
                if (path.len)
                        return xstrndup(path.p, path.len);
        }
}

static int add_listed(struct tls_certs *t, const char *certs, const char *keys, const struct tls_chain *more, struct err *err)
{
        const char *key_list = keys && *keys ? keys : NULL;
        char *cert, *key = NULL;
        int rc = 0;

        while (rc == 0 && (cert = next_path(&certs)) != NULL) {
                if (key_list && (key = next_path(&key_list)) == NULL)
                        rc = err_set(err, ERR_CONFIG, "tls_server_key: no key for %s", cert);
                else
                        rc = add_pair(t, cert, key ? key : cert, more, err);
                free(cert);
                free(key);
                key = NULL;
        }
        if (rc == 0 && key_list && (key = next_path(&key_list)) != NULL)
                rc = err_set(err, ERR_CONFIG, "tls_server_key: %s belongs to no certificate of tls_server_cert", key);
        free(key);
        if (rc == 0 && t->certs.n == 0)
                rc = err_set(err, ERR_CONFIG, "tls_server_cert names no file");
        t->listed = t->certs.n;
        return rc;
}

static bool ends_in(const char *s, const char *tail)
{
        size_t n = strlen(s), m = strlen(tail);

        return n > m && strcmp(s + n - m, tail) == 0;
}

static int name_order(const struct dirent **a, const struct dirent **b)
{
        return strcmp((*a)->d_name, (*b)->d_name);
}

/* NAME.pem holds both, NAME/fullchain.pem and NAME/privkey.pem are a pair (certbot's layout), as are NAME.crt and NAME.key. */
static void add_entry(struct tls_certs *t, const char *dir, const char *name, const struct tls_chain *more)
{
        struct str cert = STR_INIT, key = STR_INIT;
        struct err err = ERR_INIT;

        if (ends_in(name, ".pem")) {
                str_printf(&cert, "%s/%s", dir, name);
                str_append_str(&key, cert.data);
        } else if (ends_in(name, ".crt")) {
                str_printf(&cert, "%s/%s", dir, name);
                str_printf(&key, "%s/%.*s.key", dir, (int)strlen(name) - 4, name);
        } else {
                str_printf(&cert, "%s/%s/fullchain.pem", dir, name);
                str_printf(&key, "%s/%s/privkey.pem", dir, name);
                if (!fs_exists(cert.data))
                        goto out;
        }
        if (add_pair(t, cert.data, key.data, more, &err) < 0)
                log_event(LOG_ERROR, NULL, "tls.certificate", "reason=\"%s\"", err.text);
out:
        str_deinit(&cert);
        str_deinit(&key);
}

static int add_dir(struct tls_certs *t, const char *dir, const struct tls_chain *more, struct err *err)
{
        struct dirent **entries;
        int n;

        if (!dir || !*dir)
                return 0;
        n = scandir(dir, &entries, NULL, name_order);
        if (n < 0)
                return err_set(err, ERR_CONFIG, "tls_server_cert_dir: %s: %s", dir, strerror(errno));
        for (int i = 0; i < n; i++) {
                if (entries[i]->d_name[0] != '.')
                        add_entry(t, dir, entries[i]->d_name, more);
                free(entries[i]);
        }
        free(entries);
        return 0;
}

/* tls_server_ca_file and tls_server_ca_dir: what completes chains. In a directory, whatever is no certificate is passed over. */
static int load_issuers(const char *file, const char *dir, struct tls_chain *more, struct err *err)
{
        struct dirent **entries;
        int n;

        if (file && tls_chain_load(file, more, err) < 0)
                return -1;
        if (!dir)
                return 0;
        n = scandir(dir, &entries, NULL, name_order);
        if (n < 0)
                return err_set(err, ERR_CONFIG, "tls_server_ca_dir: %s: %s", dir, strerror(errno));
        for (int i = 0; i < n; i++) {
                struct tls_chain here = { NULL, 0 };
                struct str path = STR_INIT;
                struct err ignored = ERR_INIT;

                str_printf(&path, "%s/%s", dir, entries[i]->d_name);
                if (entries[i]->d_name[0] != '.' && tls_chain_load(path.data, &here, &ignored) == 0) {
                        more->v = gnutls_realloc(more->v, (more->n + here.n) * sizeof *more->v);
                        must(more->v != NULL);
                        memcpy(more->v + more->n, here.v, here.n * sizeof *here.v);
                        more->n += here.n;
                        gnutls_free(here.v);
                }
                str_deinit(&path);
                free(entries[i]);
        }
        free(entries);
        return 0;
}

/* ---- names ---------------------------------------------------------------------------------------------------------------- */

static int name_cmp(const void *a, const void *b)
{
        const struct name *x = a, *y = b;
        int c = strcmp(x->name, y->name);

        return c ? c : x->cert < y->cert ? -1 : x->cert > y->cert;
}

static void sort_names(struct tls_certs *t)
{
        size_t n = 0;

        for (size_t i = 0; i < t->certs.n; i++)
                for (size_t k = 0; k < t->certs.v[i].names.n; k++)
                        *ARRAY_PUSH(&t->names) = (struct name){ t->certs.v[i].names.v[k], i, NO_SET };
        if (t->names.n)
                qsort(t->names.v, t->names.n, sizeof *t->names.v, name_cmp);
        for (size_t i = 0; i < t->names.n; i++)         /* once each: some certificates repeat themselves */
                if (n == 0 || name_cmp(&t->names.v[n - 1], &t->names.v[i]) != 0)
                        t->names.v[n++] = t->names.v[i];
        t->names.n = n;
}

/* The first entry of this very name; t->names.n: none. Later ones of the name follow it. */
static size_t find_name(const struct tls_certs *t, const char *name)
{
        size_t low = 0, high = t->names.n;

        while (low < high) {
                size_t mid = low + (high - low) / 2;

                if (strcmp(t->names.v[mid].name, name) < 0)
                        low = mid + 1;
                else
                        high = mid;
        }
        return low < t->names.n && strcmp(t->names.v[low].name, name) == 0 ? low : t->names.n;
}

/* How many certificates have the name that begins at entry `at`. */
static size_t run_length(const struct tls_certs *t, size_t at)
{
        size_t n = 1;

        while (at + n < t->names.n && strcmp(t->names.v[at + n].name, t->names.v[at].name) == 0)
                n++;
        return n;
}

/* ---- credentials ---------------------------------------------------------------------------------------------------------- */

static int put_cert(gnutls_certificate_credentials_t to, struct cert *c, struct err *err)
{
        int rc = gnutls_certificate_set_x509_key(to, c->list, (int)c->list_n, c->key);

        return rc >= 0 ? 0 : err_set(err, ERR_CONFIG, "%s: %s", c->names.n ? c->names.v[0] : "certificate", gnutls_strerror(rc));
}

/* The set of just the certificates at the entries from `at`, if some name had the same ones already; else t->sets.n. */
static size_t find_set(const struct tls_certs *t, size_t at, size_t n)
{
        size_t i = t->certs.v[t->names.v[at].cert].last_set;

        for (; i != NO_SET; i = t->sets.v[i].earlier) {
                size_t k = 0;

                while (k < n && n == t->sets.v[i].n && t->names.v[t->sets.v[i].at + k].cert == t->names.v[at + k].cert)
                        k++;
                if (k == n)
                        return i;
        }
        return t->sets.n;
}

static int make_set(struct tls_certs *t, size_t at, size_t n, struct err *err)
{
        struct cert *first = &t->certs.v[t->names.v[at].cert];
        struct set *set = ARRAY_PUSH(&t->sets);

        *set = (struct set){ at, n, first->last_set, NULL };
        first->last_set = t->sets.n - 1;
        must(gnutls_certificate_allocate_credentials(&set->credentials) == 0);
        for (size_t k = 0; k < n; k++)
                if (put_cert(set->credentials, &t->certs.v[t->names.v[at + k].cert], err) < 0)
                        return -1;
        for (size_t j = 0; j < t->listed; j++) {
                size_t k = 0;

                while (k < n && t->names.v[at + k].cert != j)
                        k++;
                if (k == n && put_cert(set->credentials, &t->certs.v[j], err) < 0)
                        return -1;
        }
        return 0;
}

static int make_sets(struct tls_certs *t, struct err *err)
{
        for (size_t at = 0, n; at < t->names.n; at += n) {
                size_t set;

                n = run_length(t, at);
                set = find_set(t, at, n);
                if (set == t->sets.n && make_set(t, at, n, err) < 0)
                        return -1;
                t->names.v[at].set = set;
        }
        return 0;
}

int tls_certs_load(struct conf *conf, const char *service, struct tls_certs **certs_r, struct err *err)
{
        struct tls_certs *t = xcalloc(1, sizeof *t);
        struct tls_chain more = { NULL, 0 };
        int rc = load_issuers(conf_str(conf, service, "tls_server_ca_file"), conf_str(conf, service, "tls_server_ca_dir"), &more, err);

        if (rc == 0)
                rc = add_listed(t, conf_str(conf, service, "tls_server_cert"), conf_str(conf, service, "tls_server_key"), &more, err);
        if (rc == 0)
                rc = add_dir(t, conf_str(conf, service, "tls_server_cert_dir"), &more, err);
        sort_names(t);
        must(gnutls_certificate_allocate_credentials(&t->fallback) == 0);
        for (size_t i = 0; rc == 0 && i < t->listed; i++)
                rc = put_cert(t->fallback, &t->certs.v[i], err);
        if (rc == 0 && t->certs.n > 1)
                rc = make_sets(t, err);
        tls_chain_free(&more);                  /* the credentials have copies of their own */
        if (rc < 0)
                tls_certs_free(&t);
        else
                *certs_r = t;
        return rc;
}

void tls_certs_free(struct tls_certs **tp)
{
        struct tls_certs *t = *tp;

        *tp = NULL;
        if (!t)
                return;
        for (size_t i = 0; i < t->certs.n; i++)
                cert_free(&t->certs.v[i]);
        for (size_t i = 0; i < t->files.n; i++)
                tls_chain_free(&t->files.v[i]);
        for (size_t i = 0; i < t->sets.n; i++)
                gnutls_certificate_free_credentials(t->sets.v[i].credentials);
        if (t->fallback)
                gnutls_certificate_free_credentials(t->fallback);
        ARRAY_FREE(&t->certs);
        ARRAY_FREE(&t->sets);
        ARRAY_FREE(&t->files);
        ARRAY_FREE(&t->names);
        free(t);
}

gnutls_certificate_credentials_t tls_certs_each(const struct tls_certs *t, size_t i)
{
        return i == 0 ? t->fallback : i <= t->sets.n ? t->sets.v[i - 1].credentials : NULL;
}

gnutls_certificate_credentials_t tls_certs_for(const struct tls_certs *t, const char *name)
{
        char key[NAME_MAX_LEN + 2];
        size_t len = name ? strlen(name) : 0, at;
        const char *dot;

        if (t->sets.n == 0 || len == 0 || len > NAME_MAX_LEN)
                return t->fallback;
        for (size_t i = 0; i <= len; i++)
                key[i] = ascii_lower(name[i]);
        if (key[len - 1] == '.')
                key[--len] = '\0';
        at = find_name(t, key);
        /* RFC 6125 6.4.3: the star stands for one whole label. */
        if (at == t->names.n && (dot = strchr(key, '.')) != NULL && dot > key) {
                char star[NAME_MAX_LEN + 3] = "*";

                memcpy(star + 1, dot, strlen(dot) + 1);
                at = find_name(t, star);
        }
        return at == t->names.n ? t->fallback : t->sets.v[t->names.v[at].set].credentials;
}
