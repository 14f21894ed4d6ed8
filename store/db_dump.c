/*
 * db_dump - tables as text and back; see db.h.
 *
 *   {"cyrd-dump":1,"table":"mailboxes.db"}
 *   {"k":"Nuser.joe","v":"v1\nid=…"}
 *   {"records":1}
 *
 * Octets stand as the code points of the same number (U+0000 to U+00FF), so that any value fits into JSON.
 */
#include <jansson.h>
#include <stdlib.h>

#include "store/db_private.h"
#include "util/fs.h"

#define DUMP_BYTES_MAX (4ull << 30)

static void append_json(struct str *out, struct span s)
{
        static const char hex[] = "0123456789abcdef";

        str_append_c(out, '"');
        for (size_t i = 0; i < s.len; i++) {
                unsigned char c = (unsigned char)s.p[i];

                if (c == '\n') {
                        str_append(out, "\\n", 2);
                } else if (c == '\t') {
                        str_append(out, "\\t", 2);
                } else if (c < 0x20 || c > 0x7e) {
                        char escape[] = { '\\', 'u', '0', '0', hex[c >> 4], hex[c & 15] };

                        str_append(out, escape, sizeof escape);
                } else {
                        if (c == '"' || c == '\\')
                                str_append_c(out, '\\');
                        str_append_c(out, (char)c);
                }
        }
        str_append_c(out, '"');
}

int db_dump(struct db *db, const char *path, struct err *err)
{
        struct str out = STR_INIT;
        struct db_cursor *cursor;
        struct span key, value;
        uint64_t records = 0;
        int rc;

        if (db_cursor_open(db, NULL, SPAN(""), &cursor, err) < 0)
                return -1;
        str_append_str(&out, "{\"cyrd-dump\":1,\"table\":");
        append_json(&out, span_of(db->file));
        str_append_str(&out, "}\n");
        while ((rc = db_cursor_next(cursor, &key, &value, err)) > 0) {
                str_append_str(&out, "{\"k\":");
                append_json(&out, key);
                str_append_str(&out, ",\"v\":");
                append_json(&out, value);
                str_append_str(&out, "}\n");
                records++;
        }
        db_cursor_close(&cursor);
        str_printf(&out, "{\"records\":%llu}\n", (unsigned long long)records);
        if (rc == 0)
                rc = fs_replace_lazily(path, out.data, out.len, 0600, err);
        str_deinit(&out);
        return rc;
}

/* Code points back to octets, appended. */
static bool octets_of(const json_t *string, struct str *out)
{
        const char *p = json_string_value(string);
        size_t n = json_string_length(string);

        if (!p)
                return false;
        for (size_t i = 0; i < n; i++) {
                unsigned char c = (unsigned char)p[i];

                if (c < 0x80) {
                        str_append_c(out, (char)c);
                } else if ((c == 0xc2 || c == 0xc3) && i + 1 < n) {
                        str_append_c(out, (char)(((c & 3) << 6) | ((unsigned char)p[++i] & 0x3f)));
                } else {
                        return false;
                }
        }
        return true;
}

struct restoring {
        struct db *db;
        struct span text;
        const char *path;
        uint64_t records;
};

enum line_kind { LINE_HEAD, LINE_RECORD, LINE_END, LINE_BAD };

static enum line_kind read_line(struct span line, struct str *key, struct str *value, uint64_t *count_r)
{
        json_error_t ignored;
        json_t *object = json_loadb(line.p, line.len, JSON_ALLOW_NUL, &ignored);
        enum line_kind kind = LINE_BAD;

        if (json_is_integer(json_object_get(object, "cyrd-dump"))) {
                if (json_integer_value(json_object_get(object, "cyrd-dump")) == 1)
                        kind = LINE_HEAD;
        } else if (json_is_integer(json_object_get(object, "records"))) {
                *count_r = (uint64_t)json_integer_value(json_object_get(object, "records"));
                kind = LINE_END;
        } else if (octets_of(json_object_get(object, "k"), key) && octets_of(json_object_get(object, "v"), value) && key->len) {
                kind = LINE_RECORD;
        }
        json_decref(object);
        return kind;
}

static int put_all(struct db_txn *txn, void *ctx, struct err *err)
{
        struct restoring *r = ctx;
        struct span rest = r->text;
        struct str key = STR_INIT, value = STR_INIT;
        uint64_t line_no = 0, count = 0;
        bool whole = false;
        int ret = -1;

        r->records = 0;
        while (rest.len) {
                size_t n = span_index(rest, '\n');
                enum line_kind kind;

                str_clear(&key);
                str_clear(&value);
                kind = read_line((struct span){ rest.p, n }, &key, &value, &count);
                line_no++;
                rest.p += n < rest.len ? n + 1 : n;
                rest.len -= n < rest.len ? n + 1 : n;
                if ((kind == LINE_HEAD) != (line_no == 1) || kind == LINE_BAD || whole) {
                        err_set(err, ERR_CORRUPT, "%s:%llu: not a line of a dump", r->path, (unsigned long long)line_no);
                        goto out;
                }
                if (kind == LINE_RECORD) {
                        if (db_put(r->db, txn, str_span(&key), str_span(&value), err) < 0)
                                goto out;
                        r->records++;
                }
                whole = kind == LINE_END;
        }
        if (!whole || count != r->records)
                err_set(err, ERR_CORRUPT, "%s is not whole", r->path);
        else
                ret = 0;
out:
        str_deinit(&key);
        str_deinit(&value);
        return ret;
}

int db_restore(struct db *db, const char *path, uint64_t *records_r, struct err *err)
{
        struct str text = STR_INIT;
        struct restoring r = { .db = db, .path = path };
        int ret = -1;

        if (fs_slurp(path, DUMP_BYTES_MAX, &text, err) == 0) {
                r.text = str_span(&text);
                ret = db_run(db->env, true, put_all, &r, err);
        }
        *records_r = ret == 0 ? r.records : 0;
        str_deinit(&text);
        return ret;
}
