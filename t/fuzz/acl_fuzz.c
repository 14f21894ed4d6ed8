/* acl_fuzz - the first octets choose a change, then come an identifier, a NUL, and a list as it might be found on the disk. */
#include <stdint.h>
#include <stdlib.h>

#include "store/acl.h"
#include "util/must.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t rights_of_entry(const char *acl, const char *identifier, unsigned *entries_r)
{
        struct span id;
        uint32_t rights, found = 0;

        *entries_r = 0;
        for (const char *pos = acl; acl_next(&pos, &id, &rights);) {
                must((rights & ~(uint32_t)ACL_FULL) == 0);
                if (span_eq_str(id, identifier)) {
                        found |= rights;
                        ++*entries_r;
                }
        }
        return found;
}

static void check_text(uint32_t rights)
{
        char text[ACL_TEXT_MAX];
        uint32_t again;

        must(acl_parse_rights(span_of(acl_format_rights(text, rights)), &again, NULL) == 0);
        must(again == (rights & ACL_FULL));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        char *text, *acl;
        uint32_t rights, before, after;
        unsigned entries;
        enum acl_mode mode;
        struct str out = STR_INIT, twice = STR_INIT;
        struct err err = ERR_INIT;

        if (size < 6)
                return 0;
        mode = (enum acl_mode)(data[0] % 3);
        memcpy(&rights, data + 1, 4);
        rights &= ACL_FULL;
        check_text(rights);
        text = xstrndup((const char *)data + 5, size - 5);
        acl = strlen(text) < size - 5 ? text + strlen(text) + 1 : text;
        {
                static const char *const groups[] = { "a", "b", NULL };
                struct acl_identity who = { .userid = text, .groups = groups, .is_owner = data[0] >> 2 & 1, .owner_rights = ACL_LOOKUP,
                                            .is_admin = data[0] >> 3 & 1 };
                uint32_t effective = acl_rights(acl, &who);

                must((effective & ~(uint32_t)ACL_FULL) == 0);
                must(!who.is_owner || (effective & ACL_LOOKUP));
                must(!who.is_admin || (effective & ACL_ADMIN));
        }
        before = rights_of_entry(acl, text, &entries);
        if (acl_change(acl, text, mode, rights, &out, &err) == 0) {
                after = rights_of_entry(out.data, text, &entries);
                must(entries <= 1);
                if (mode == ACL_SET)
                        must(after == rights);
                if (mode == ACL_ADD)
                        must((after & rights) == rights && (after & ~(before | rights)) == 0);
                if (mode == ACL_REMOVE)
                        must((after & rights) == 0 && (after & ~before) == 0);
                /* Canonical: setting what is there already changes nothing. */
                must(acl_change(out.data, text, ACL_SET, after, &twice, &err) == 0);
                must(span_eq(str_span(&out), str_span(&twice)));
        } else {
                must(out.len == 0 && (err.code == ERR_SYNTAX || err.code == ERR_LIMIT));
        }
        str_deinit(&out);
        str_deinit(&twice);
        free(text);
        return 0;
}
