/*
 * imap_annotation - annotations of messages (RFC 5257): what STORE sets and FETCH asks for, and entries against wildcards, compared with a
 * matcher that tries everything. The first octet chooses.
 */
#include <stdlib.h>

#include "server/imap/annotation.h"
#include "server/imap/imap.h"
#include "util/must.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_entry(const char *entry)
{
        struct annotation_part part;
        struct err err = ERR_INIT;

        must(annotation_entry(span_of(entry), &part, &err) == 0);
        must(part.n <= ANNOTATION_PATH_MAX && (part.n == 0) == !ascii_isdigit(entry[1]));
        for (size_t i = 0; i < part.n; i++)
                must(part.path[i] > 0);
        must(entry[0] == '/' && !strstr(entry, "//") && entry[strlen(entry) - 1] != '/' && !strpbrk(entry, "*%"));
}

static void set(struct span text, struct arena *arena, bool utf8)
{
        struct annotation_set s;
        struct imap_parser ip;
        bool private = false, shared = false;

        imap_parser_init(&ip, text, arena, utf8);
        if (annotation_parse_set(&ip, &s) < 0) {
                must(ip.err.code == ERR_SYNTAX || ip.err.code == ERR_LIMIT);
                return;
        }
        must(s.n > 0 && s.n <= ANNOTATION_SET_MAX);
        for (uint32_t i = 0; i < s.n; i++) {
                check_entry(s.v[i].entry);
                private |= !s.v[i].user;
                shared |= s.v[i].user != NULL;
                must(!s.v[i].user || !*s.v[i].user);
                must(s.v[i].value.p || !s.v[i].value.len);
        }
        must(private == s.private && shared == s.shared);
}

static void item(struct span text, struct arena *arena, bool utf8)
{
        struct annotation_item it;
        struct imap_parser ip;
        struct str out = STR_INIT;

        imap_parser_init(&ip, text, arena, utf8);
        if (annotation_parse_item(&ip, &it) < 0) {
                must(ip.err.code == ERR_SYNTAX || ip.err.code == ERR_LIMIT);
                return;
        }
        must(it.entries_n > 0 && it.entries_n <= ANNOTATION_ENTRIES_MAX && it.wanted_n > 0 && it.wanted_n <= ANNOTATION_ATTRIBUTES_MAX);
        for (unsigned i = 0; i < it.entries_n; i++) {
                if (it.entries[i].wild)
                        (void)annotation_matches(it.entries[i].pattern, "/1.2/comment/of/some/length");
                else
                        check_entry(it.entries[i].pattern.p);
        }
        /* What is answered, is well-formed: of values that are the client's own octets. */
        str_append_c(&out, '(');
        annotation_append(&it, "/comment", text, (struct span){ NULL, 0 }, utf8, &out);
        must(out.data[out.len - 1] == ')');
        must(annotation_has_any(&it, text, text));
        must(!annotation_has_any(&it, (struct span){ NULL, 0 }, (struct span){ NULL, 0 }));
        str_deinit(&out);
}

static bool naive(struct span p, const char *s, unsigned *budget)
{
        if (*budget == 0)
                return false;
        --*budget;
        if (p.len == 0)
                return *s == '\0';
        if (*p.p != '*' && *p.p != '%')
                return *s == *p.p && *s && naive((struct span){ p.p + 1, p.len - 1 }, s + 1, budget);
        if (naive((struct span){ p.p + 1, p.len - 1 }, s, budget))
                return true;
        return *s && (*p.p == '*' || *s != '/') && naive(p, s + 1, budget);
}

/* "pattern NUL entry" */
static void match(struct span text)
{
        size_t n = span_index(text, '\0');
        struct span pattern = { text.p, n };
        const char *entry = n < text.len ? text.p + n + 1 : "";
        struct err err = ERR_INIT;
        unsigned budget = 20000;
        bool wild, yes, want;

        if (annotation_pattern(pattern, &wild, &err) < 0) {
                must(err.code == ERR_SYNTAX || err.code == ERR_LIMIT);
                return;
        }
        if (pattern.len > ANNOTATION_PATTERN_MAX)
                return;
        yes = annotation_matches(pattern, entry);
        want = naive(pattern, entry, &budget);
        must(budget == 0 || yes == want);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct arena arena = ARENA_INIT;
        struct span text;
        char *copy;

        if (size == 0)
                return 0;
        copy = xmalloc(size);                   /* a NUL behind it: entries end with one */
        memcpy(copy, data + 1, size - 1);
        copy[size - 1] = '\0';
        text = (struct span){ copy, size - 1 };
        switch (data[0] % 3) {
        case 0: set(text, &arena, data[0] & 64); break;
        case 1: item(text, &arena, data[0] & 64); break;
        case 2: match(text); break;
        }
        arena_deinit(&arena);
        free(copy);
        return 0;
}
