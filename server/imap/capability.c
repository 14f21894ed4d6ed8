/*
 * capability - the table of what is advertised, and when. Only what works stands in it (RFC 9051 7.2.2).
 */
#include <inttypes.h>
#include <stdio.h>

#include "server/imap/imap_private.h"
#include "server/imap/sync.h"
#include "util/array.h"

/* Before login a greeting tells what helps to log in. Who asks with CAPABILITY hears the rest as well: cyradm never asks again. */
enum when {
        BEFORE = 1,                             /* login */
        AFTER = 2,
        ALWAYS = 3,
        ONLY_AFTER = 4,                         /* not to who asks before */
};

static bool literal_plus(struct imap *imap)
{
        return !conf_switch(imap->conf, imap_service(imap), "literalminus");
}

static bool literal_minus(struct imap *imap)
{
        return !literal_plus(imap);
}

static bool starttls(struct imap *imap)
{
        return service_has_tls(imap->s->service) && !stream_is_tls(imap->s->stream);
}

static bool not_compressed(struct imap *imap)
{
        return !stream_is_deflated(imap->s->stream);
}

static bool referrals(struct imap *imap)
{
        return !conf_switch(imap->conf, imap_service(imap), "proxyd_disable_mailbox_referrals");
}

static bool annotatemore(struct imap *imap)
{
        return conf_switch(imap->conf, imap_service(imap), "annotation_enable_legacy_commands");
}

static bool login_disabled(struct imap *imap)
{
        return !imap_plaintext_ok(imap);
}

static bool idle(struct imap *imap)
{
        return conf_duration_s(imap->conf, imap_service(imap), "imapidlepoll") > 0;
}

static bool replication(struct imap *imap)
{
        return imap->is_admin && imap_sync_ops();
}

static const struct capability {
        const char *name;
        enum when when;
        bool (*condition)(struct imap *imap);   /* NULL: always */
} capabilities[] = {
        { "IMAP4rev1",          ALWAYS, NULL },                 /* RFC 3501 */
        { "IMAP4rev2",          ALWAYS, NULL },                 /* RFC 9051 */
        { "LITERAL+",           ALWAYS, literal_plus },         /* RFC 7888 */
        { "LITERAL-",           ALWAYS, literal_minus },        /* RFC 7888 5 */
        { "ID",                 ALWAYS, NULL },                 /* RFC 2971 */
        { "ENABLE",             ALWAYS, NULL },                 /* RFC 5161 */
        { "SASL-IR",            BEFORE, NULL },                 /* RFC 4959 */
        { "STARTTLS",           BEFORE, starttls },
        { "LOGINDISABLED",      BEFORE, login_disabled },
        { "ACL",                AFTER,  NULL },                 /* RFC 4314 */
        { "RIGHTS=kxten",       AFTER,  NULL },
        { "ANNOTATE-EXPERIMENT-1", AFTER, NULL },               /* RFC 5257 */
        { "ANNOTATEMORE",       AFTER,  annotatemore },         /* draft-daboo-imap-annotatemore-05 */
        { "BINARY",             AFTER,  NULL },                 /* RFC 3516 */
        { "CATENATE",           AFTER,  NULL },                 /* RFC 4469 */
        { "CHILDREN",           AFTER,  NULL },                 /* RFC 3348 */
        { "COMPRESS=DEFLATE",   ONLY_AFTER, not_compressed },     /* RFC 4978 */
        { "CONDSTORE",          AFTER,  NULL },                 /* RFC 7162 */
        { "CONTEXT=SEARCH",     AFTER,  NULL },                 /* RFC 5267 4 */
        { "CONTEXT=SORT",       AFTER,  NULL },
        { "CREATE-SPECIAL-USE", AFTER,  NULL },                 /* RFC 6154 */
        { "ESEARCH",            AFTER,  NULL },                 /* RFC 4731 */
        { "ESORT",              AFTER,  NULL },                 /* RFC 5267 3 */
        { "FILTERS",            AFTER,  NULL },                 /* RFC 5466 */
        { "I18NLEVEL=1",        AFTER,  NULL },                 /* RFC 5255 4 */
        { "IDLE",               AFTER,  idle },                 /* RFC 2177 */
        { "INPROGRESS",         AFTER,  NULL },                 /* RFC 9585 */
        { "LIST-EXTENDED",      AFTER,  NULL },                 /* RFC 5258 */
        { "LIST-METADATA",      AFTER,  NULL },                 /* RFC 9590 */
        { "LIST-MYRIGHTS",      AFTER,  NULL },                 /* RFC 8440 */
        { "LIST-STATUS",        AFTER,  NULL },                 /* RFC 5819 */
        { "MAILBOX-REFERRALS",  AFTER,  referrals },            /* RFC 2193 */
        { "METADATA",           AFTER,  NULL },                 /* RFC 5464 */
        { "MOVE",               AFTER,  NULL },                 /* RFC 6851 */
        { "MULTIAPPEND",        AFTER,  NULL },                 /* RFC 3502 */
        { "MULTISEARCH",        AFTER,  NULL },                 /* RFC 7377 */
        { "NAMESPACE",          AFTER,  NULL },                 /* RFC 2342 */
        { "NOTIFY",             AFTER,  NULL },                 /* RFC 5465 */
        { "OBJECTID",           AFTER,  NULL },                 /* RFC 8474 */
        { "QRESYNC",            AFTER,  NULL },                 /* RFC 7162 3.2 */
        { "PREVIEW",            AFTER,  NULL },                 /* RFC 8970 */
        { "REPLACE",            AFTER,  NULL },                 /* RFC 8508 */
        { "PARTIAL",            AFTER,  NULL },                 /* RFC 9394 */
        { "SAVEDATE",           AFTER,  NULL },                 /* RFC 8514 */
        { "SEARCH=FUZZY",       AFTER,  NULL },                 /* RFC 6203 */
        { "QUOTA",              AFTER,  NULL },                 /* RFC 9208, 2087 */
        { "QUOTA=RES-ANNOTATION-STORAGE", AFTER, NULL },        /* RFC 9208 5 */
        { "QUOTA=RES-MAILBOX",  AFTER,  NULL },
        { "QUOTA=RES-MESSAGE",  AFTER,  NULL },
        { "QUOTA=RES-STORAGE",  AFTER,  NULL },
        { "QUOTASET",           AFTER,  NULL },
        { "SEARCHRES",          AFTER,  NULL },                 /* RFC 5182 */
        { "SORT",               AFTER,  NULL },                 /* RFC 5256 */
        { "SORT=DISPLAY",       AFTER,  NULL },                 /* RFC 5957 */
        { "SPECIAL-USE",        AFTER,  NULL },                 /* RFC 6154 */
        { "STATUS=SIZE",        AFTER,  NULL },                 /* RFC 8438 */
        { "THREAD=ORDEREDSUBJECT", AFTER, NULL },               /* RFC 5256 */
        { "THREAD=REFERENCES",  AFTER,  NULL },
        { "THREAD=REFS",        AFTER,  NULL },                 /* draft-ietf-morg-inthread */
        { "UIDONLY",            AFTER,  NULL },                 /* RFC 9586 */
        { "UIDPLUS",            AFTER,  NULL },                 /* RFC 4315 */
        { "UNAUTHENTICATE",     ONLY_AFTER, NULL },               /* RFC 8437 */
        { "UNSELECT",           AFTER,  NULL },                 /* RFC 3691 */
        { "UTF8=ACCEPT",        AFTER,  NULL },                 /* RFC 9755 */
        { "XLIST",              AFTER,  NULL },
        { "X-REPLICATION",      ONLY_AFTER, replication },      /* Cyrus's: SYNC… of administrators */
        { "URL-PARTIAL",        AFTER,  NULL },                 /* RFC 5550 5.7.1 */
        { "URLAUTH",            AFTER,  NULL },                 /* RFC 4467 */
        { "URLAUTH=BINARY",     AFTER,  NULL },                 /* RFC 5524 */
        { "WITHIN",             AFTER,  NULL },                 /* RFC 5032 */
};

static const char *suppressed(struct imap *imap)
{
        return conf_str(imap->conf, imap_service(imap), "suppress_capabilities");
}

static bool in_list(const char *list, const char *capability)
{
        struct span rest = list ? span_of(list) : SPAN("");

        while (rest.len) {
                size_t n = span_index(rest, ' ');

                if (span_ieq_str(span_trim((struct span){ rest.p, n }), capability))
                        return true;
                n += n < rest.len;
                rest = (struct span){ rest.p + n, rest.len - n };
        }
        return false;
}

bool imap_suppressed(struct imap *imap, const char *capability)
{
        return in_list(suppressed(imap), capability);
}

static void append_mechanisms(struct imap *imap, const char *without, struct str *out)
{
        const char *mechanisms = imap_mechanisms(imap);
        char name[64];

        while (*mechanisms) {
                size_t n = strcspn(mechanisms, " ");

                if (n && snprintf(name, sizeof name, "AUTH=%.*s", (int)n, mechanisms) < (int)sizeof name && !in_list(without, name))
                        str_printf(out, " %s", name);
                mechanisms += n + (mechanisms[n] == ' ');
        }
}

void imap_capabilities(struct imap *imap, bool asked, struct str *out)
{
        unsigned now = imap->state != IMAP_NOT_AUTH ? AFTER | ONLY_AFTER : asked ? ALWAYS : BEFORE;
        const char *without = suppressed(imap);
        size_t begin = out->len;

        for (size_t i = 0; i < ARRAY_LEN(capabilities); i++) {
                const struct capability *c = &capabilities[i];

                if (!(c->when & now) || (c->condition && !c->condition(imap)) || in_list(without, c->name))
                        continue;
                if (out->len > begin)
                        str_append_c(out, ' ');
                str_append_str(out, c->name);
        }
        if (now & BEFORE)
                append_mechanisms(imap, without, out);
        if ((now & AFTER) && !in_list(without, "APPENDLIMIT"))
                str_printf(out, " APPENDLIMIT=%" PRIu64, imap_append_limit(imap));      /* RFC 7889: the same for all mailboxes */
}

void imap_put_capabilities(struct imap *imap, bool asked)
{
        struct str line = STR_INIT;

        imap_capabilities(imap, asked, &line);
        imap_put_span(imap, str_span(&line));
        str_deinit(&line);
}
