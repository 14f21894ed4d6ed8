/*
 * lmtp_ident - which message is this? As in Cyrus it is told by the first Resent-Message-ID, else the first Message-ID, and by the Date:
 * generators of message ids that repeat themselves are old and many. What has no message id is never a duplicate.
 */
#include <stdlib.h>

#include "server/lmtp/lmtp_private.h"
#include "store/mime.h"
#include "util/log.h"
#include "util/must.h"

#define HEADER_MAX 65536                        /* octets that are looked at */
#define VALUE_MAX 2000                          /* octets of a value that count: no honest message id is longer */

static void take(char **value_r, struct span raw)
{
        struct str value = STR_INIT;

        if (*value_r)
                return;                         /* the first one counts */
        mime_unfold(raw, &value);
        if (value.len > VALUE_MAX)
                str_truncate(&value, VALUE_MAX);
        if (value.len && !memchr(value.data, '\0', value.len))
                *value_r = str_take(&value);
        str_deinit(&value);
}

void lmtp_identify(struct lmtp *l)
{
        size_t n = l->header_bytes < HEADER_MAX ? (size_t)l->header_bytes : HEADER_MAX, pos = 0;
        char *resent = NULL, *id = NULL, *header = xmalloc(n + 1), quoted[LOG_QUOTE_MAX];
        struct mime_field field;
        struct err err = ERR_INIT;

        if (stage_read(l->stage, 0, header, n, &err) < 0) {
                log_event(LOG_WARN, l->s->name, "lmtp.header", "id=%s reason=%s", l->id, log_quote_str(quoted, err.text));
                n = 0;
        }
        while (mime_field_next((struct span){ header, n }, &pos, &field)) {
                if (span_ieq_str(field.name, "Message-ID"))
                        take(&id, field.value);
                else if (span_ieq_str(field.name, "Resent-Message-ID"))
                        take(&resent, field.value);
                else if (span_ieq_str(field.name, "Date"))
                        take(&l->message_date, field.value);
        }
        l->message_id = resent ? resent : id;
        if (resent)
                free(id);
        free(header);
}
