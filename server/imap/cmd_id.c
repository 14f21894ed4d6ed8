/* ID (RFC 2971): who the client says it is goes to the log, who we are to the client if imapidresponse and serverinfo allow. */
#include <stdio.h>

#include "server/imap/imap_private.h"
#include "server/version.h"
#include "util/log.h"

#define ID_FIELDS_MAX 30                        /* RFC 2971 3.3 */
#define ID_KEY_MAX 30
#define ID_VALUE_MAX 1024

/* Only what tells one client program from another. */
static bool worth_logging(struct span key)
{
        return span_ieq_str(key, "name") || span_ieq_str(key, "version") || span_ieq_str(key, "os") || span_ieq_str(key, "vendor");
}

static int parse_field(struct imap_parser *ip, struct str *told)
{
        struct span key, value;
        char buf[LOG_QUOTE_MAX];
        bool nil;

        if (imap_string(ip, &key) < 0 || imap_sp(ip) < 0 || imap_nstring(ip, &value, &nil) < 0)
                return -1;
        if (key.len > ID_KEY_MAX || value.len > ID_VALUE_MAX)
                return err_set(&ip->err, ERR_LIMIT, "ID field is too long");
        if (!nil && worth_logging(key))
                str_printf(told, " client_%.*s=%s", (int)key.len, key.p, log_quote(buf, value.p, value.len));
        return 0;
}

static int parse(struct imap_parser *ip, struct str *told)
{
        struct span nil;
        unsigned n = 0;

        if (imap_sp(ip) < 0)
                return -1;
        if (!imap_peek_c(ip, '(')) {
                bool is_nil;

                if (imap_nstring(ip, &nil, &is_nil) < 0)
                        return -1;
                return is_nil ? imap_end(ip) : err_set(&ip->err, ERR_SYNTAX, "List or NIL expected");
        }
        if (imap_open_paren(ip) < 0)
                return -1;
        while (!imap_peek_c(ip, ')')) {
                if (n && imap_sp(ip) < 0)
                        return -1;
                if (++n > ID_FIELDS_MAX)
                        return err_set(&ip->err, ERR_LIMIT, "Too many ID fields");
                if (parse_field(ip, told) < 0)
                        return -1;
        }
        if (imap_close_paren(ip) < 0)
                return -1;
        return imap_end(ip);
}

enum cmd_result cmd_id(struct imap *imap)
{
        struct str told = STR_INIT;
        const char *serverinfo = conf_enum(imap->conf, imap_service(imap), "serverinfo");

        imap->cmd.args.utf8 = true;
        if (parse(&imap->cmd.args, &told) < 0) {
                str_deinit(&told);
                return imap_bad(imap, "%s", imap->cmd.args.err.text);
        }
        if (told.len)
                log_event(LOG_NOTE, imap->s->name, "imap.id", "user=%s%s", imap->userid ? imap->userid : "-", told.data);
        str_deinit(&told);
        if (!conf_switch(imap->conf, imap_service(imap), "imapidresponse") || strcmp(serverinfo, "off") == 0)
                imap_untagged(imap, "ID NIL");
        else if (strcmp(serverinfo, "min") == 0)
                imap_untagged(imap, "ID (\"name\" \"Cyrd\")");
        else
                imap_untagged(imap, "ID (\"name\" \"Cyrd\" \"version\" \"%s\")", CYRD_VERSION);
        return imap_ok(imap, NULL, "Completed");
}
