#include <criterion/criterion.h>
#include <stdio.h>

#include "util/array.h"
#include "util/dlist.h"
#include "util/must.h"

static const struct dlist_limits small = { .word = 64, .literal = 128, .depth = 5, .items = 50, .memory = 16384, .octets = 4096, .file = 1000 };

/* What hooks have heard, as text. */
struct heard { struct str text; const char *refuse_at; };

static int heard_add(struct heard *h, const char *what, struct err *err)
{
        str_append_str(&h->text, what);
        if (h->refuse_at && strcmp(h->refuse_at, what) == 0)
                return err_set(err, ERR_NOSPACE, "refused");
        return 0;
}

static int file_begin(void *ctx, struct dlist *file, struct err *err)
{
        struct heard *h = ctx;

        str_printf(&h->text, "[%s %02x %d ", file->value.p, file->guid[0], (int)file->size);
        return heard_add(h, "<", err);
}

static int file_write(void *ctx, const char *p, size_t len, struct err *err)
{
        struct heard *h = ctx;

        str_append(&h->text, p, len);
        return heard_add(h, "", err);
}

static int file_end(void *ctx, struct dlist *file, struct err *err)
{
        file->file = ctx;
        return heard_add(ctx, ">]", err);
}

static bool streams(void *ctx, struct span key) { (void)ctx; return span_eq_str(key, "RECORD"); }

static void render(const struct dlist *d, struct str *out)
{
        if (d->key.p)
                str_printf(out, "%s=", d->key.p);
        switch (d->kind) {
        case DLIST_NIL: str_append_str(out, "nil"); break;
        case DLIST_ATOM: str_append_c(out, '\''); str_append_span(out, d->value); break;
        case DLIST_STRING: str_append_c(out, '"'); str_append_span(out, d->value); break;
        case DLIST_FILE: str_printf(out, "file:%s", d->value.p); break;
        case DLIST_LIST:
        case DLIST_KVLIST:
                str_append_c(out, d->kind == DLIST_LIST ? '(' : '<');
                for (const struct dlist *c = d->first; c; c = c->next) {
                        render(c, out);
                        if (c->next)
                                str_append_c(out, ' ');
                }
                str_append_c(out, d->kind == DLIST_LIST ? ')' : '>');
                break;
        }
}

static int element(void *ctx, struct span key, const struct dlist *e, struct err *err)
{
        struct heard *h = ctx;

        str_printf(&h->text, "%s:", key.p);
        render(e, &h->text);
        return heard_add(h, ";", err);
}

/* Read `line` in pieces of `step` octets; what came of it as text: the item, or "-syntax step" and the like. */
static char *parse(struct span line, size_t piece, const struct dlist_limits *limits, struct heard *h)
{
        struct arena arena = ARENA_INIT;
        struct dlist_hooks hooks = { h, file_begin, file_write, file_end, streams, element };
        struct dlist_parser *p = dlist_parser_create(&arena, limits, &hooks);
        struct str out = STR_INIT;
        size_t at = 0, used;
        struct dlist *item;
        struct err err = ERR_INIT;
        int rc = 0;

        while (at < line.len && rc == 0) {
                /* A copy of just these octets: reading beyond them is found by the sanitizer. */
                size_t n = line.len - at < piece ? line.len - at : piece;
                char *copy = xstrndup(line.p + at, n);

                rc = dlist_parse(p, (struct span){ copy, n }, &used, &item, &err);
                cr_assert_leq(used, n);
                cr_assert(rc != 0 || used == n);
                at += used;
                free(copy);
        }
        if (rc == 1)
                render(item, &out);
        else if (rc == 0)
                str_append_str(&out, "more");
        else
                str_printf(&out, "-%s%s%s", err_code_name(err.code), dlist_in_step(p) ? " step" : "", dlist_had_octets(p) ? " octets" : "");
        if (rc != 0)
                cr_expect(dlist_is_idle(p));
        if (rc == 1 && at < line.len)
                str_printf(&out, " rest %d", (int)(line.len - at));
        dlist_parser_destroy(&p);
        arena_deinit(&arena);
        return str_take(&out);
}

static void expect(struct span line, const char *want, const char *hear)
{
        for (size_t piece = 1; piece <= line.len; piece = piece < 4 ? piece + 1 : piece * 3) {
                struct heard h = { STR_INIT, NULL };
                char *have = parse(line, piece, &small, &h);

                cr_expect_str_eq(have, want, "%.*s in pieces of %zu: %s", (int)line.len, line.p, piece, have);
                cr_expect_str_eq(h.text.data, hear ? hear : "", "%.*s: heard %s", (int)line.len, line.p, h.text.data);
                free(have);
                str_deinit(&h.text);
        }
}

#define GUID "407ff1bca51502cee95b2b2f64eddbb366a2dd0f"
#define LINE(text) ((struct span){ (text), sizeof(text) - 1 })

Test(dlist, every_form_of_value_is_read_wherever_the_octets_are_cut)
{
        static const struct { struct span line; const char *want, *hear; } cases[] = {
                { LINE("USER joe\r\n"), "USER='joe", NULL },
                { LINE("USER joe\n"), "USER='joe", NULL },
                { LINE("  USER   joe  \r\nX"), "USER='joe rest 1", NULL },
                { LINE("A NIL\r\n"), "A=nil", NULL },
                { LINE("A \"NIL\"\r\n"), "A=\"NIL", NULL },
                { LINE("A nil\r\n"), "A='nil", NULL },
                { LINE("A \"\"\r\n"), "A=\"", NULL },
                { LINE("A \"a \\\"b\\\\ \xc3\xa4\"\r\n"), "A=\"a \"b\\ \xc3\xa4", NULL },
                { LINE("A {3}\r\na)b\r\n"), "A=\"a)b", NULL },
                { LINE("A {3+}\r\n\r\n\"\r\n"), "A=\"\r\n\"", NULL },
                { LINE("A {0}\r\n\r\n"), "A=\"", NULL },
                { LINE("A {2}\nhi\n"), "A=\"hi", NULL },
                { LINE("A ()\r\n"), "A=()", NULL },
                { LINE("A %()\r\n"), "A=<>", NULL },
                { LINE("A (b {1+}\r\n( \"d\" NIL (e) %(f g))\r\n"), "A=('b \"( \"d nil ('e) <f='g>)", NULL },
                { LINE("A %(K v \"L\" (x)  {1}\r\nM {1}\r\ny)\r\n"), "A=<K='v L=('x) M=\"y>", NULL },
                { LINE("A %(K\r\n v\r\nL\r\n\r\nw\r\n)\r\n"), "A=<K='v L='w>", NULL },
                { LINE("A (\r\n)\r\n"), "A=()", NULL },
                { LINE("FLAGS (\\Seen $New a{b}%c]*)\r\n"), "FLAGS=('\\Seen '$New 'a{b}%c]*)", NULL },
                { LINE("A (%{default " GUID " 3}\r\n) ( %{p " GUID " 0}\r\n)\r\n"), "A=(file:default file:p)",
                  "[default 40 3 <) (>][p 40 0 <>]" },
                { LINE("M %(X 1 RECORD (%(UID 1 A (x)) %(UID 2) z) Y 2)\r\n"), "M=<X='1 RECORD=() Y='2>",
                  "RECORD:<UID='1 A=('x)>;RECORD:<UID='2>;RECORD:'z;" },
                { LINE("M %(X %(RECORD (a)) RECORD a)\r\n"), "M=<X=<RECORD=('a)> RECORD='a>", NULL },
                { LINE("RECORD (a b)\r\n"), "RECORD=('a 'b)", NULL },
        };

        for (size_t i = 0; i < ARRAY_LEN(cases); i++)
                expect(cases[i].line, cases[i].want, cases[i].hear);
}

Test(dlist, what_is_open_at_the_end_of_a_line_waits_for_more)
{
        static const struct span cases[] = {
                LINE("USER"), LINE("USER joe"), LINE("USER joe\r"), LINE("A (foo\r\n"), LINE("A %(foo\r\n"), LINE("A {3}"), LINE("A {3}\r\n12"),
                LINE("A \"x"), LINE("A (%{default " GUID " 3}\r\nabc"),
        };

        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                struct heard h = { STR_INIT, NULL };
                char *have = parse(cases[i], 1, &small, &h);

                cr_expect_str_eq(have, "more", "%s: %s", cases[i].p, have);
                free(have);
                str_deinit(&h.text);
        }
}

Test(dlist, what_is_out_of_grammar_is_refused_and_says_whether_the_stream_is_in_step)
{
        static const struct { struct span line; const char *want; } cases[] = {
                { LINE("\n"), "-syntax step" },
                { LINE("USER\n"), "-syntax step" },
                { LINE("USER\r\n"), "-syntax" },                                 /* at the CR: the LF is still to come */
                { LINE("USER \n"), "-syntax step" },
                { LINE("USER joe x\r\n"), "-syntax" },
                { LINE("USER joe\rx\n"), "-syntax" },
                { LINE("USER joe)\r\n"), "-syntax" },
                { LINE(")\r\n"), "-syntax" },
                { LINE("(a)\r\n"), "-syntax" },
                { LINE("%(a b)\r\n"), "-syntax" },
                { LINE("A %(K)\r\n"), "-syntax" },
                { LINE("A %(K v (x) y)\r\n"), "-syntax" },
                { LINE("A \"b\"c\r\n"), "-syntax" },
                { LINE("A (\"b\"(c))\r\n"), "-syntax" },
                { LINE("A (b(c))\r\n"), "-syntax" },
                { LINE("A (b\"c\")\r\n"), "-syntax" },
                { LINE("A \"b\n"), "-syntax step" },
                { LINE("A \"b\\\n"), "-syntax step" },
                { LINE("A {}\r\n"), "-syntax" },
                { LINE("A {x}\r\n"), "-syntax" },
                { LINE("A {-1}\r\n"), "-syntax" },
                { LINE("A {99999999999999999999}\r\n"), "-syntax" },
                { LINE("A {1}x\r\n"), "-syntax" },
                { LINE("A {1}\r\r\n"), "-syntax" },
                { LINE("A {1}\r\nxyz\r\n"), "-syntax octets" },
                { LINE("A %x\r\n"), "-syntax" },
                { LINE("A %{p " GUID "}\r\n"), "-syntax" },
                { LINE("A %{p " GUID " x}\r\n"), "-syntax" },
                { LINE("A %{p 407ff1 3}\r\nabc\r\n"), "-syntax" },
                { LINE("A %{ " GUID " 3}\r\nabc\r\n"), "-syntax" },
                { LINE("A (%{p " GUID " 2}\r\nabc)\r\n"), "-syntax octets" },
                { LINE("A x\0y\r\n"), "-syntax" },
                { LINE("\0\r\n"), "-syntax" },
                { LINE("A (((((x)))))\r\n"), "A=((((('x)))))" },
                { LINE("A ((((((x))))))\r\n"), "-limit" },
        };

        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                struct heard h = { STR_INIT, NULL };
                char *have = parse(cases[i].line, 1, &small, &h);

                cr_expect_str_eq(have, cases[i].want, "%s: %s", cases[i].line.p, have);
                free(have);
                str_deinit(&h.text);
        }
}

static char *repeated(const char *head, const char *what, int n, const char *tail)
{
        struct str s = STR_INIT;

        str_append_str(&s, head);
        for (int i = 0; i < n; i++)
                str_append_str(&s, what);
        str_append_str(&s, tail);
        return str_take(&s);
}

Test(dlist, what_passes_a_limit_is_read_to_its_end_and_thrown_away)
{
        struct { char *line; const char *want; } cases[] = {
                { repeated("A ", "x", 64, "\r\nrest"), NULL },
                { repeated("A ", "x", 65, " \r\nrest"), "-limit step" },
                { repeated("A (", "\"", 1, "12345678901234567890123456789012345678901234567890123456789012345\" b)\r\n"), "-limit step" },
                { repeated("", "k", 65, " v\r\n"), "-limit step" },
                { repeated("A {129}\r\n", ")", 129, "\r\n"), "-limit step octets" },
                { repeated("A (", "x ", 49, ")\r\n"), NULL },
                { repeated("A (", "x ", 50, ")\r\n"), "-limit step" },
                { repeated("A (", "() ", 50, "%(a (b) c \"d\") {2}\r\nxx %{p " GUID " 4}\r\n)))))\r\n"), "-limit step octets" },
                { repeated("A (%{p " GUID " 1001}\r\n", "(", 1001, ")\r\n"), "-limit step octets" },
                { repeated("A (", "\r\n", 2100, ")\r\n"), "-limit" },                       /* octets */
                { repeated("A {5000}\r\n", "x", 5000, "\r\n"), "-limit octets" },
        };

        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                struct heard h = { STR_INIT, NULL };
                char *have = parse(span_of(cases[i].line), 7, &small, &h);

                if (cases[i].want)
                        cr_expect_str_eq(have, cases[i].want, "%zu: %s", i, have);
                else
                        cr_expect_neq(have[0], '-', "%zu: %s", i, have);
                free(have);
                free(cases[i].line);
                str_deinit(&h.text);
        }
}

Test(dlist, a_line_takes_no_more_memory_than_its_limit_but_a_streamed_list_is_endless)
{
        struct dlist_limits limits = { .word = 1000, .literal = 1000, .depth = 5, .items = 1000000, .memory = 20000, .octets = 10000000, .file = 0 };
        struct heard h = { STR_INIT, NULL };
        char *line = repeated("A (", "x ", 2000, ")\r\n"), *have = parse(span_of(line), 1000, &limits, &h);

        cr_expect_str_eq(have, "-limit step");
        free(line);
        free(have);
        line = repeated("A %(RECORD (", "%(a b) ", 2000, "))\r\n");
        have = parse(span_of(line), 1000, &limits, &h);
        cr_expect_str_eq(have, "A=<RECORD=()>");
        cr_expect_eq(h.text.len, 2000 * strlen("RECORD:<a='b>;"));
        free(line);
        free(have);
        line = repeated("A %(RECORD ((", "x ", 2000, ")))\r\n");                  /* one element is bounded too */
        have = parse(span_of(line), 1000, &limits, &h);
        cr_expect_str_eq(have, "-limit step");
        free(line);
        free(have);
        str_deinit(&h.text);
}

Test(dlist, a_refusal_of_a_hook_leaves_the_stream_in_step_and_calls_no_further_hook)
{
        static const struct { struct span line; const char *at, *want, *hear; } cases[] = {
                { LINE("A (%{p " GUID " 2}\r\nxy %{p " GUID " 1}\r\nz)\r\n"), "<", "-nospace step octets", "[p 40 2 <" },
                { LINE("A (%{p " GUID " 2}\r\nxy %{p " GUID " 1}\r\nz)\r\n"), "", "-nospace step octets", "[p 40 2 <xy" },
                { LINE("A (%{p " GUID " 2}\r\nxy %{p " GUID " 1}\r\nz)\r\n"), ">]", "-nospace step octets", "[p 40 2 <xy>]" },
                { LINE("A %(RECORD (a %(b c) {1}\r\n)) d \"e\")\r\n"), ";", "-nospace step octets", "RECORD:'a;" },
        };

        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                struct heard h = { STR_INIT, cases[i].at };
                char *have = parse(cases[i].line, cases[i].line.len, &small, &h);

                cr_expect_str_eq(have, cases[i].want, "%zu: %s", i, have);
                cr_expect_str_eq(h.text.data, cases[i].hear);
                free(have);
                str_deinit(&h.text);
        }
}

Test(dlist, lines_follow_each_other_and_are_not_mixed)
{
        struct arena arena = ARENA_INIT;
        struct dlist_limits limits = DLIST_LIMITS_DEFAULT;
        struct dlist_parser *p = dlist_parser_create(&arena, &limits, NULL);
        struct span in = SPAN("A b\r\nC %{p " GUID " 3}\r\na\r\n\r\nD %(E 1)\r\nF )\r\n");
        static const int want[] = { 1, -1, 1, -1 };
        struct err err = ERR_INIT;
        struct dlist *item;
        size_t used;
        uint64_t e = 0;

        for (size_t i = 0; i < ARRAY_LEN(want); i++) {
                cr_expect_eq(dlist_parse(p, in, &used, &item, &err), want[i], "%zu", i);
                in.p += used;
                in.len -= used;
                if (i == 1)
                        cr_expect(dlist_in_step(p) && err.code == ERR_SYNTAX);
                if (i == 2)
                        cr_expect(dlist_u64(item, "E", 5, &e) && e == 1);
        }
        cr_expect_not(dlist_in_step(p));
        cr_expect_not(dlist_had_octets(p));
        dlist_parser_destroy(&p);
        arena_deinit(&arena);
}

Test(dlist, values_are_taken_out_only_if_they_are_what_is_wanted)
{
        struct arena arena = ARENA_INIT;
        struct dlist_limits limits = DLIST_LIMITS_DEFAULT;
        struct dlist_parser *p = dlist_parser_create(&arena, &limits, NULL);
        struct span in = SPAN("A %(N 17 Q \"18\" BIG 18446744073709551615 NEG -1 H 00000000000abcdE HX 0g G " GUID
                              " S {3}\r\na\0b T text N 99 L (1 2) Z NIL)\r\n");
        struct err err = ERR_INIT;
        const struct dlist *list;
        struct dlist *item;
        size_t used;
        uint64_t n;
        uint32_t n32;
        int64_t date;
        const char *text;
        struct span s;
        uint8_t guid[GUID_SIZE];

        cr_assert_eq(dlist_parse(p, in, &used, &item, &err), 1, "%s", err.text);
        cr_expect(dlist_u64(item, "N", 17, &n) && n == 17);                     /* the first of two */
        cr_expect_not(dlist_u64(item, "N", 16, &n));
        cr_expect(dlist_u32(item, "Q", &n32) && n32 == 18);
        cr_expect(dlist_u64(item, "BIG", UINT64_MAX, &n) && n == UINT64_MAX);
        cr_expect_not(dlist_u32(item, "BIG", &n32));
        cr_expect_not(dlist_date(item, "BIG", &date));
        cr_expect(dlist_date(item, "N", &date) && date == 17);
        cr_expect_not(dlist_u64(item, "NEG", UINT64_MAX, &n));
        cr_expect(dlist_hex64(item, "H", &n) && n == 0xabcde);
        cr_expect_not(dlist_hex64(item, "HX", &n));
        cr_expect(dlist_guid(item, "G", guid) && guid[0] == 0x40 && guid[19] == 0x0f);
        cr_expect_not(dlist_guid(item, "N", guid));
        cr_expect(dlist_str(item, "S", &s) && s.len == 3);
        cr_expect_not(dlist_text(item, "S", &text));
        cr_expect(dlist_text(item, "T", &text) && strcmp(text, "text") == 0);
        cr_expect(dlist_list(item, "L", &list) && list->n == 2);
        cr_expect_not(dlist_list(item, "T", &list));
        cr_expect_not(dlist_text(item, "Z", &text));
        cr_expect_not(dlist_text(item, "missing", &text));
        cr_expect_not(dlist_text(NULL, "missing", &text));
        dlist_parser_destroy(&p);
        arena_deinit(&arena);
}

static void write_values(struct dlist_writer *w, const char *const *values, size_t n)
{
        dlist_write_list(w, "V");
        for (size_t i = 0; i < n; i++)
                dlist_write_text(w, NULL, values[i]);
        dlist_write_end(w);
}

Test(dlist, a_value_is_written_in_the_plainest_form_that_either_side_may_send)
{
        static const char *const values[] = { "joe", "", "NIL", NULL, "a b", "user.joe", "100%", "say \"x\"", "\\x",
                                               "\xc3\xa4", "a\nb", "x]", "a,b" };
        struct str out = STR_INIT;
        struct dlist_writer w;

        dlist_writer_init(&w, &out, DLIST_SERVER);
        write_values(&w, values, ARRAY_LEN(values));
        cr_expect_str_eq(out.data, "V (joe \"\" \"NIL\" NIL \"a b\" user.joe \"100%\" \"say \\\"x\\\"\" \"\\\\x\" "
                                   "{2}\r\n\xc3\xa4 {3}\r\na\nb \"x]\" a,b)");
        str_clear(&out);
        dlist_writer_init(&w, &out, DLIST_CLIENT);
        write_values(&w, values, ARRAY_LEN(values));
        cr_expect_str_eq(out.data, "V (joe \"\" \"NIL\" NIL \"a b\" user.joe {4+}\r\n100% {7+}\r\nsay \"x\" "
                                   "{2+}\r\n\\x {2+}\r\n\xc3\xa4 {3+}\r\na\nb \"x]\" a,b)");
        str_deinit(&out);
}

Test(dlist, a_record_is_written_as_the_real_one_writes_it)
{
        struct str out = STR_INIT;
        struct dlist_writer w;
        uint8_t guid[GUID_SIZE];

        cr_assert(hex_decode(guid, SPAN(GUID)));
        dlist_writer_init(&w, &out, DLIST_CLIENT);
        dlist_write_kvlist(&w, "MAILBOX");
        dlist_write_text(&w, "ACL", "user1\tlrs\t");
        dlist_write_list(&w, "RECORD");
        dlist_write_kvlist(&w, NULL);
        dlist_write_u64(&w, "UID", 1);
        dlist_write_date(&w, "INTERNALDATE", -5);
        dlist_write_list(&w, "FLAGS");
        dlist_write_flag(&w, "\\Seen");
        dlist_write_flag(&w, "$New");
        dlist_write_end(&w);
        dlist_write_guid(&w, "GUID", guid);
        dlist_write_end(&w);
        dlist_write_kvlist(&w, NULL);
        dlist_write_hex64(&w, "T", 0xabcde);
        dlist_write_end(&w);
        dlist_write_end(&w);
        dlist_write_end(&w);
        cr_expect_str_eq(out.data, "MAILBOX %(ACL \"user1\tlrs\t\" RECORD (%(UID 1 INTERNALDATE 0 FLAGS (\\Seen $New) GUID " GUID ") "
                                   "%(T 00000000000abcde)))");
        str_clear(&out);
        dlist_writer_init(&w, &out, DLIST_SERVER);
        dlist_write_file(&w, "MESSAGE", "default", guid, 3);
        cr_expect_str_eq(out.data, "MESSAGE %{default " GUID " 3}\r\n");
        str_deinit(&out);
}

Test(dlist, what_is_written_is_read_back_whatever_its_octets)
{
        struct arena arena = ARENA_INIT;
        struct dlist_limits limits = DLIST_LIMITS_DEFAULT;
        struct dlist_parser *p = dlist_parser_create(&arena, &limits, NULL);
        struct str out = STR_INIT;
        struct dlist_writer w;

        for (int side = DLIST_CLIENT; side <= DLIST_SERVER; side++)
                for (size_t len = 0; len < 3000; len = len < 3 ? len + 1 : len * 2) {
                        for (int c = 0; c < 256; c++) {
                                char *value = xmalloc(len + 1);
                                struct err err = ERR_INIT;
                                struct dlist *item;
                                struct span have;
                                size_t used;

                                memset(value, 'x', len);
                                if (len)
                                        value[len / 2] = (char)c;
                                str_clear(&out);
                                arena_reset(&arena);
                                dlist_writer_init(&w, &out, (enum dlist_side)side);
                                dlist_write_kvlist(&w, "K");
                                dlist_write_str(&w, "V", (struct span){ value, len });
                                dlist_write_end(&w);
                                str_append_str(&out, "\r\n");
                                cr_assert_eq(dlist_parse(p, str_span(&out), &used, &item, &err), 1, "%s: %s", out.data, err.text);
                                cr_assert(dlist_str(item, "V", &have));
                                cr_assert(span_eq(have, (struct span){ value, len }));
                                free(value);
                        }
                }
        str_deinit(&out);
        dlist_parser_destroy(&p);
        arena_deinit(&arena);
}
