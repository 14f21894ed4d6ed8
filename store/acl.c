/*
 * acl - see acl.h
 *
 * Stored form: "identifier TAB letters TAB" repeated. Readers are lenient: a last TAB may be missing, letters that mean nothing
 * are skipped, an identifier without letters ends the list. What acl_change() writes is always in canonical form.
 */
#include "store/acl.h"
#include "util/conf.h"

#include <stdio.h>
#include <string.h>

#include "util/log.h"

static const struct { char letter; uint32_t bits; } letters[] = {        /* in the order in which they are printed */
        { 'l', ACL_LOOKUP }, { 'r', ACL_READ }, { 's', ACL_SEEN }, { 'w', ACL_WRITE }, { 'i', ACL_INSERT }, { 'p', ACL_POST },
        { 'k', ACL_CREATE }, { 'x', ACL_DELETEMBOX }, { 't', ACL_DELETEMSG }, { 'e', ACL_EXPUNGE },
        { 'c', ACL_CREATE | ACL_DELETEMBOX }, { 'd', ACL_DELETEMSG | ACL_EXPUNGE },     /* RFC 4314 2.1.1, legacy */
        { 'a', ACL_ADMIN }, { 'n', ACL_ANNOTATE },
};

static uint32_t bits_of(char c)
{
        if (ascii_isdigit(c))
                return ACL_USER0 << (c - '0');
        for (size_t i = 0; i < sizeof letters / sizeof letters[0]; i++)
                if (letters[i].letter == c)
                        return letters[i].bits;
        return 0;
}

/* c and d stand for their groups only when no member of the group is named as well (RFC 4314 2.1.1). *bad_r is the first letter
 * that means nothing, 0 if there is none. */
static uint32_t rights_of(struct span text, char *bad_r)
{
        uint32_t rights = 0;
        bool legacy_c = false, legacy_d = false;

        *bad_r = 0;
        for (size_t i = 0; i < text.len; i++) {
                uint32_t bits = bits_of(text.p[i]);

                if (text.p[i] == 'c')
                        legacy_c = true;
                else if (text.p[i] == 'd')
                        legacy_d = true;
                else if (bits)
                        rights |= bits;
                else if (!*bad_r)
                        *bad_r = text.p[i] ? text.p[i] : '?';
        }
        if (legacy_c && !(rights & (ACL_CREATE | ACL_DELETEMBOX)))
                rights |= ACL_CREATE | ACL_DELETEMBOX;
        if (legacy_d && !(rights & (ACL_DELETEMSG | ACL_EXPUNGE)))
                rights |= ACL_DELETEMSG | ACL_EXPUNGE;
        return rights;
}

int acl_parse_rights(struct span text, uint32_t *rights_r, struct err *err)
{
        char bad, quoted[LOG_QUOTE_MAX];

        *rights_r = rights_of(text, &bad);
        if (bad)
                return err_set(err, ERR_SYNTAX, "unknown right %s", log_quote(quoted, &bad, 1));
        return 0;
}

const char *acl_format_rights(char buf[ACL_TEXT_MAX], uint32_t rights)
{
        char *out = buf;

        for (size_t i = 0; i < sizeof letters / sizeof letters[0]; i++)
                if (rights & letters[i].bits)
                        *out++ = letters[i].letter;
        for (unsigned d = 0; d < 10; d++)
                if (rights & (ACL_USER0 << d))
                        *out++ = (char)('0' + d);
        *out = '\0';
        return buf;
}

static bool next_entry(const char **pos, struct span *identifier_r, struct span *letters_r)
{
        const char *tab = strchr(*pos, '\t'), *end;

        if (!tab)
                return false;
        end = strchrnul(tab + 1, '\t');
        *identifier_r = (struct span){ *pos, (size_t)(tab - *pos) };
        *letters_r = (struct span){ tab + 1, (size_t)(end - tab - 1) };
        *pos = *end ? end + 1 : end;
        return true;
}

bool acl_next(const char **pos, struct span *identifier_r, uint32_t *rights_r)
{
        struct span text;
        char bad;

        if (!next_entry(pos, identifier_r, &text))
                return false;
        *rights_r = rights_of(text, &bad);
        return true;
}

static bool is_nobody(const char *userid)
{
        return !userid || !*userid || strcmp(userid, "anonymous") == 0;
}

static bool identifier_is(struct span id, const struct acl_identity *who)
{
        if (span_eq(id, SPAN("anyone")))                /* everybody, anonymous included: RFC 4314 2 */
                return true;
        if (span_eq(id, SPAN("anonymous")))
                return is_nobody(who->userid);
        if (id.len > 6 && memcmp(id.p, "group:", 6) == 0) {
                for (const char *const *g = who->groups; g && *g; g++)
                        if (span_eq_str((struct span){ id.p + 6, id.len - 6 }, *g))
                                return true;
                return false;
        }
        return !is_nobody(who->userid) && span_eq_str(id, who->userid);
}

/* Letters are looked at only where the identifier is the user's: a long list shall not be told by how long it takes. */
uint32_t acl_rights(const char *acl, const struct acl_identity *who)
{
        uint32_t given = 0, taken = 0;
        struct span id, text;
        const char *pos = acl ? acl : "";
        char bad;

        while (next_entry(&pos, &id, &text)) {
                if (identifier_is(id, who))
                        given |= rights_of(text, &bad);
                else if (id.len > 1 && id.p[0] == '-' && identifier_is((struct span){ id.p + 1, id.len - 1 }, who))
                        taken |= rights_of(text, &bad);
        }
        given &= ~taken;
        /* Implicit rights cannot be lost, not even to negative ones. */
        if (who->is_owner)
                given |= who->owner_rights;
        if (who->is_admin)
                given |= ACL_LOOKUP | ACL_ADMIN;
        return given & ACL_FULL;
}

static int check_identifier(const char *id, struct err *err)
{
        size_t len = strlen(id);

        if (len == 0 || (len == 1 && id[0] == '-'))
                return err_set(err, ERR_SYNTAX, "empty identifier");
        if (len > ACL_IDENTIFIER_MAX)
                return err_set(err, ERR_LIMIT, "identifier longer than %d octets", ACL_IDENTIFIER_MAX);
        for (size_t i = 0; i < len; i++)
                if ((unsigned char)id[i] < 0x20 || id[i] == 0x7f)
                        return err_set(err, ERR_SYNTAX, "control character in identifier");
        return 0;
}

static void append_entry(struct str *out, struct span id, uint32_t rights)
{
        char text[ACL_TEXT_MAX];

        if (!rights)
                return;
        str_append_span(out, id);
        str_append_c(out, '\t');
        str_append_str(out, acl_format_rights(text, rights));
        str_append_c(out, '\t');
}

static uint32_t changed_rights(uint32_t old, enum acl_mode mode, uint32_t rights)
{
        switch (mode) {
        case ACL_SET:
                return rights;
        case ACL_ADD:
                return old | rights;
        case ACL_REMOVE:
                return old & ~rights;
        }
        return old;
}

int acl_change(const char *acl, const char *identifier, enum acl_mode mode, uint32_t rights, struct str *out, struct err *err)
{
        const char *pos = acl ? acl : "";
        size_t start = out->len;
        struct span id;
        uint32_t have;
        bool done = false;

        if (check_identifier(identifier, err) < 0)
                return -1;
        rights &= ACL_FULL;
        while (acl_next(&pos, &id, &have)) {
                if (id.len == 0)
                        continue;
                if (!span_eq_str(id, identifier)) {
                        append_entry(out, id, have);
                } else if (!done) {                     /* a second entry of one identifier is dropped */
                        append_entry(out, id, changed_rights(have, mode, rights));
                        done = true;
                }
        }
        if (!done && mode != ACL_REMOVE)
                append_entry(out, span_of(identifier), rights);
        if (out->len - start > ACL_LIST_MAX) {
                str_truncate(out, start);
                return err_set(err, ERR_LIMIT, "access control list longer than %d octets", ACL_LIST_MAX);
        }
        return 0;
}

uint32_t acl_implicit_owner(struct conf *conf)
{
        const char *text = conf_str(conf, NULL, "implicit_owner_rights");
        uint32_t rights;

        return text && acl_parse_rights(span_of(text), &rights, NULL) == 0 ? rights : 0;
}
