/* metadata - see metadata.h */
#include "server/imap/metadata.h"

static int add_entry(struct imap_parser *ip, struct arena *arena, struct metadata_request *r)
{
        struct span entry;

        if (r->n == METADATA_ENTRIES_MAX)
                return err_set(&ip->err, ERR_LIMIT, "Too many entries");
        if (imap_peek_c(ip, '"') || imap_peek_c(ip, '{')) {
                if (imap_string(ip, &entry) < 0)
                        return -1;
        } else if (imap_list_mailbox(ip, &entry) < 0) {         /* with * and %, as Cyrus's clients send them */
                return -1;
        }
        return metadata_name(entry, true, arena, &r->asked[r->n++], &ip->err);
}

int imap_metadata_entries(struct imap_parser *ip, struct arena *arena, struct metadata_request *r)
{
        r->asked = ARENA_ARRAY(arena, const char *, METADATA_ENTRIES_MAX);
        if (!imap_peek_c(ip, '('))
                return add_entry(ip, arena, r);
        if (imap_open_paren(ip) < 0)
                return -1;
        do
                if (add_entry(ip, arena, r) < 0)
                        return -1;
        while (imap_skip_c(ip, ' '));
        return imap_close_paren(ip);
}

static void put_value(struct imap *imap, struct span value)
{
        if (value.p && memchr(value.p, '\0', value.len)) {
                imap_put(imap, "~{%zu}\r\n", value.len);
                imap_put_span(imap, value);
        } else {
                imap_put_nstring(imap, value);
        }
}

static void put_entry(struct imap *imap, const char *internal, bool *begun, const char *name, struct span value)
{
        if (!*begun) {
                imap_put(imap, "* METADATA ");
                if (*internal)
                        imap_put_mailbox(imap, internal);
                else
                        imap_put(imap, "\"\"");
        }
        imap_put(imap, *begun ? " " : " (");
        *begun = true;
        imap_put_astring(imap, span_of(name));
        imap_put(imap, " ");
        put_value(imap, value);
}

static bool is_asked(const struct metadata_request *r, const char *name)
{
        for (uint32_t i = 0; i < r->n; i++)
                if (metadata_matches(r->asked[i], name, r->depth))
                        return true;
        return false;
}

static bool is_there(const struct metadata *list, uint32_t n, const char *name)
{
        for (uint32_t i = 0; i < n; i++)
                if (strcmp(list[i].name, name) == 0)
                        return true;
        return false;
}

void imap_metadata_put(struct imap *imap, const char *internal, const struct metadata_request *r, const struct metadata *list, uint32_t n,
                       uint64_t *longest_r)
{
        bool begun = false;

        *longest_r = 0;
        for (uint32_t i = 0; i < n; i++) {
                if (!is_asked(r, list[i].name))
                        continue;
                if (list[i].value.len <= r->maxsize)
                        put_entry(imap, internal, &begun, list[i].name, list[i].value);
                else if (list[i].value.len > *longest_r)
                        *longest_r = list[i].value.len;
        }
        for (uint32_t i = 0; i < r->n && r->depth == METADATA_DEPTH_0; i++)
                if (!metadata_is_wild(r->asked[i]) && !is_there(list, n, r->asked[i]))
                        put_entry(imap, internal, &begun, r->asked[i], (struct span){ NULL, 0 });
        if (begun)
                imap_put(imap, ")\r\n");
}
