/*
 * mailname - see mailname.h
 *
 * Both directions work on modified UTF-7, which is ASCII: what a client writes in UTF-8 is converted first, what it reads last.
 * Neither '.' nor '/' can be inside of a modified UTF-7 sequence, so separators are found octet by octet.
 */
#include "store/mailname.h"

#include <stdlib.h>
#include <string.h>

#include "store/mailname_private.h"
#include "util/charset.h"
#include "util/log.h"
#include "util/must.h"

/* ---- pieces of an internal name ---- */

/* What follows "domain!", or the whole name. */
static const char *after_domain(const char *internal)
{
        const char *bang = strchr(internal, '!');

        return bang ? bang + 1 : internal;
}

static struct span domain_of(const char *internal)
{
        const char *bang = strchr(internal, '!');

        return bang ? (struct span){ internal, (size_t)(bang - internal) } : (struct span){ internal, 0 };
}

/* The domain in a user id; empty when there is none or user ids have no domains. */
static struct span userid_domain(const char *userid)
{
        const char *at = userid && mailname_virtdomains() ? strrchr(userid, '@') : NULL;

        return at ? span_of(at + 1) : (struct span){ userid, 0 };
}

static struct span userid_local(const char *userid)
{
        const char *at = mailname_virtdomains() ? strrchr(userid, '@') : NULL;

        return at ? (struct span){ userid, (size_t)(at - userid) } : span_of(userid);
}

/* What follows the INBOX of `userid` in a name: "" for the INBOX itself, ".Sent" for a child; NULL: not his. Runs for every name of
 * a LIST, so it makes no copies. */
static const char *rest_of_own(const char *internal, const char *userid)
{
        struct span domain = domain_of(internal), local;
        const char *p = after_domain(internal);

        if (!userid || !*userid || !span_eq(domain, userid_domain(userid)) || strncmp(p, "user.", 5) != 0)
                return NULL;
        p += 5;
        local = userid_local(userid);
        for (size_t i = 0; i < local.len; i++, p++)
                if (*p != (local.p[i] == '.' ? '^' : local.p[i]))
                        return NULL;
        return *p == '\0' || *p == '.' ? p : NULL;
}

bool mailname_domain_ok(struct span domain)
{
        char before = '.';

        if (domain.len == 0 || domain.len > 253)
                return false;
        for (size_t i = 0; i < domain.len; before = domain.p[i++]) {
                char c = domain.p[i];

                if (!ascii_isalpha(c) && !ascii_isdigit(c) && c != '-' && c != '_' && !(c == '.' && before != '.'))
                        return false;
        }
        return before != '.';
}

/* ---- questions about internal names ---- */

int mailname_compare(const char *a, const char *b)
{
        while (*a && *a == *b) {
                a++;
                b++;
        }
        if (*a == *b)
                return 0;
        if (!*a || !*b)
                return *a ? 1 : -1;
        if (*a == '.' || *b == '.')
                return *a == '.' ? -1 : 1;
        return (unsigned char)*a < (unsigned char)*b ? -1 : 1;
}

bool mailname_is_user(const char *internal)
{
        const char *p = after_domain(internal);

        return strncmp(p, "user.", 5) == 0 && p[5] && p[5] != '.';
}

bool mailname_is_inbox(const char *internal)
{
        return mailname_is_user(internal) && !strchr(after_domain(internal) + 5, '.');
}

bool mailname_is_deleted(const char *internal, const char *deletedprefix)
{
        const char *p = after_domain(internal);
        size_t len = strlen(deletedprefix);

        return len && strncmp(p, deletedprefix, len) == 0 && p[len] == '.';
}

const char *mailname_owner(const char *internal, struct arena *arena)
{
        struct span domain = domain_of(internal);
        const char *p = after_domain(internal) + 5;
        size_t len;
        char *user;

        if (!mailname_is_user(internal))
                return NULL;
        len = strcspn(p, ".");
        user = arena_alloc(arena, len + domain.len + 2);
        for (size_t i = 0; i < len; i++)
                user[i] = p[i] == '^' ? '.' : p[i];
        if (domain.len) {
                user[len++] = '@';
                memcpy(user + len, domain.p, domain.len);
                len += domain.len;
        }
        user[len] = '\0';
        return user;
}

bool mailname_owned_by(const char *internal, const char *userid)
{
        return rest_of_own(internal, userid) != NULL;
}

bool mailname_in_domain_of(const char *internal, const char *userid)
{
        return !mailname_virtdomains() || span_eq(domain_of(internal), userid_domain(userid));
}

bool mailname_userid_has_domain(const char *userid)
{
        return userid_domain(userid).len > 0;
}

const char *mailname_inbox_of(const char *userid, struct arena *arena)
{
        struct span domain = userid_domain(userid), local = userid_local(userid);
        char *name = arena_alloc(arena, domain.len + local.len + 8), *out = name;

        if (domain.len) {
                memcpy(out, domain.p, domain.len);
                out += domain.len;
                *out++ = '!';
        }
        memcpy(out, "user.", 5);
        out += 5;
        for (size_t i = 0; i < local.len; i++)
                *out++ = local.p[i] == '.' ? '^' : local.p[i];
        *out = '\0';
        return name;
}

const char *mailname_parent(const char *internal, struct arena *arena)
{
        const char *local = after_domain(internal), *dot = strrchr(local, '.');

        if (!dot || mailname_is_inbox(internal))
                return NULL;
        return arena_strndup(arena, internal, (size_t)(dot - internal));
}

bool mailname_is_below(const char *internal, const char *ancestor)
{
        size_t len = strlen(ancestor);

        return strncmp(internal, ancestor, len) == 0 && internal[len] == '.';
}

/* ---- what a name may be ---- */

/* Printable ASCII that no name may have (cyrus-files.md 6); '&' is checked as modified UTF-7. */
static bool forbidden(char c)
{
        return (unsigned char)c < 0x20 || (unsigned char)c > 0x7e || strchr("!\"%/;<>\\`{|}", c);
}

static int check_characters(struct span name, struct err *err)
{
        char quoted[LOG_QUOTE_MAX];

        for (size_t i = 0; i < name.len; i++)
                if (forbidden(name.p[i]))
                        return err_set(err, ERR_BADNAME, "forbidden character %s in a mailbox name", log_quote(quoted, name.p + i, 1));
        return 0;
}

/* Every component has at least one character. */
static int check_components(struct span name, struct err *err)
{
        char before = '.';

        for (size_t i = 0; i < name.len; before = name.p[i++])
                if (name.p[i] == '.' && before == '.')
                        return err_set(err, ERR_BADNAME, "empty component in a mailbox name");
        return before == '.' ? err_set(err, ERR_BADNAME, "a mailbox name cannot end with a separator") : 0;
}

/* Modified UTF-7 may hide control characters and noncharacters; RFC 9051 5.1 and RFC 5198 2 want none. */
static int check_mutf7(struct span name, struct err *err)
{
        struct str utf8 = STR_INIT;
        int rc = mutf7_to_utf8(name, &utf8, err);

        for (size_t i = 0; rc == 0 && i < utf8.len; i++) {
                unsigned char c = (unsigned char)utf8.data[i], next = (unsigned char)utf8.data[i + 1];

                if (c < 0x20 || c == 0x7f || (c == 0xc2 && next >= 0x80 && next <= 0x9f) ||
                    (c == 0xe2 && next == 0x80 && ((unsigned char)utf8.data[i + 2] & 0xfe) == 0xa8))    /* U+2028, U+2029 */
                        rc = err_set(err, ERR_BADNAME, "control character in a mailbox name");
        }
        str_deinit(&utf8);
        return rc;
}

/* The first component is this word (any case for `fold`). */
static bool begins_with_component(const char *name, const char *word, bool fold)
{
        size_t len = strlen(word);
        struct span head = { name, strcspn(name, ".") };

        return head.len == len && (fold ? span_ieq_str(head, word) : span_eq_str(head, word));
}

int mailname_check_new(const char *internal, bool by_admin, struct err *err)
{
        struct span domain = domain_of(internal), local = span_of(after_domain(internal));

        if (strlen(internal) > MAILNAME_MAX)
                return err_set(err, ERR_BADNAME, "mailbox name longer than %d octets", MAILNAME_MAX);
        if (strchr(internal, '!') && !mailname_domain_ok(domain))
                return err_set(err, ERR_BADNAME, "impossible domain in a mailbox name");
        if (local.len == 0)
                return err_set(err, ERR_BADNAME, "empty mailbox name");
        if (check_characters(local, err) < 0 || check_components(local, err) < 0 || check_mutf7(local, err) < 0)
                return -1;
        if (local.p[0] == '~' || local.p[0] == '$')
                return err_set(err, ERR_BADNAME, "a mailbox name cannot begin with %c", local.p[0]);
        if (begins_with_component(local.p, "INBOX", true))
                return err_set(err, ERR_BADNAME, "INBOX is the name of every user's own mailbox");
        if (begins_with_component(local.p, "user", false)) {
                const char *user = local.p + 4;

                if (!*user)
                        return err_set(err, ERR_BADNAME, "\"user\" stands above all users and is no mailbox");
                user++;
                if (begins_with_component(user, "anyone", false) || begins_with_component(user, "anonymous", false))
                        return err_set(err, ERR_BADNAME, "anyone and anonymous are not users");
                /* INBOX.INBOX: no client could tell it from its own INBOX (cyrus-files.md 6). */
                user += strcspn(user, ".");
                if (*user && !by_admin && begins_with_component(user + 1, "INBOX", true))
                        return err_set(err, ERR_BADNAME, "INBOX cannot be below INBOX");
        }
        return 0;
}

/* ---- external → internal ---- */

static int wire_to_mutf7(const struct namer *who, struct span external, struct str *out, struct err *err)
{
        struct str nfc = STR_INIT;
        int rc;

        if (external.len == 0)
                return err_set(err, ERR_BADNAME, "empty mailbox name");
        if (external.len > 4 * MAILNAME_MAX)
                return err_set(err, ERR_BADNAME, "mailbox name too long");
        if (!who->utf8) {
                if (check_mutf7(external, err) < 0)
                        return -1;
                str_append_span(out, external);
                return 0;
        }
        rc = charset_nfc(external, &nfc, err);
        if (rc == 0)
                rc = mutf7_from_utf8(str_span(&nfc), out, err);
        if (rc == 0)
                rc = check_mutf7(str_span(out), err);
        str_deinit(&nfc);
        if (rc < 0 && err)
                err->code = ERR_BADNAME;
        return rc;
}

/* Components as the client separates them, appended in internal form. */
static int append_internal(const struct namespace *ns, struct span components, struct str *out, struct err *err)
{
        size_t start = out->len;

        for (size_t i = 0; i < components.len; i++) {
                char c = components.p[i];

                if (c == ns->sep)
                        c = '.';
                else if (ns->unixsep && c == '.')
                        c = '^';                        /* so that a dot in a name is not a separator inside */
                else if (ns->unixsep && c == '^')
                        return err_set(err, ERR_BADNAME, "forbidden character ^ in a mailbox name");
                str_append_c(out, c);
        }
        {
                struct span added = { out->data + start, out->len - start };

                if (check_characters(added, err) < 0)
                        return -1;
                return check_components(added, err);
        }
}

/* Does `name` begin with this word, and then end or have a separator? *rest_r is what follows the separator, p NULL when the name
 * ends with the word. */
static bool takes_prefix(const struct namespace *ns, struct span name, const char *word, bool fold, struct span *rest_r)
{
        size_t len = strlen(word);
        struct span head = { name.p, len };

        if (len == 0 || name.len < len || (name.len > len && name.p[len] != ns->sep))
                return false;
        if (fold ? !span_ieq_str(head, word) : !span_eq_str(head, word))
                return false;
        *rest_r = name.len == len ? (struct span){ NULL, 0 } : (struct span){ name.p + len + 1, name.len - len - 1 };
        return true;
}

static int own_internal(const struct namer *who, struct span rest, struct str *out, struct err *err)
{
        struct arena arena = ARENA_INIT;

        if (!who->userid || !*who->userid)
                return err_set(err, ERR_BADNAME, "nobody is logged in who could have an INBOX");
        str_append_str(out, mailname_inbox_of(who->userid, &arena));
        arena_deinit(&arena);
        if (!rest.p)
                return 0;
        str_append_c(out, '.');
        return append_internal(who->ns, rest, out, err);
}

static void append_domain(struct span domain, struct str *out)
{
        if (!domain.len)
                return;
        for (size_t i = 0; i < domain.len; i++)
                str_append_c(out, ascii_lower(domain.p[i]));
        str_append_c(out, '!');
}

/* Admins write "user/joe/Sent@domain"; the default domain's names have no domain. */
static int admin_internal(const struct namer *who, struct span name, struct str *out, struct err *err)
{
        const struct namespace *ns = who->ns;
        struct span own = userid_domain(who->userid), domain = own;
        const char *at = ns->virtdomains ? memrchr(name.p, '@', name.len) : NULL;

        if (at) {
                domain = (struct span){ at + 1, (size_t)(name.p + name.len - at - 1) };
                name.len = (size_t)(at - name.p);
                if (!mailname_domain_ok(domain))
                        return err_set(err, ERR_BADNAME, "impossible domain in a mailbox name");
                if (own.len && !span_ieq(own, domain))
                        return err_set(err, ERR_BADNAME, "another domain than yours");
                if (ns->defaultdomain && span_ieq_str(domain, ns->defaultdomain))
                        domain.len = 0;
        }
        append_domain(domain, out);
        return append_internal(ns, name, out, err);
}

static int shared_internal(const struct namer *who, struct span name, struct str *out, struct err *err)
{
        append_domain(userid_domain(who->userid), out);
        return append_internal(who->ns, name, out, err);
}

static int other_user_internal(const struct namer *who, struct span rest, struct str *out, struct err *err)
{
        append_domain(userid_domain(who->userid), out);
        str_append_str(out, "user");
        if (!rest.p)
                return 0;
        str_append_c(out, '.');
        return append_internal(who->ns, rest, out, err);
}

static int to_internal(const struct namer *who, struct span name, struct str *out, struct err *err)
{
        const struct namespace *ns = who->ns;
        bool alt = ns->alt && !who->is_admin;
        struct span rest, again;

        if (takes_prefix(ns, name, "INBOX", true, &rest)) {
                if (rest.p && (alt || takes_prefix(ns, rest, "INBOX", true, &again)))
                        return err_set(err, ERR_BADNAME, alt ? "INBOX has no children here" : "INBOX cannot be below INBOX");
                return own_internal(who, rest, out, err);
        }
        if (who->is_admin)
                return admin_internal(who, name, out, err);
        if (!alt)
                return shared_internal(who, name, out, err);
        if (takes_prefix(ns, name, ns->userprefix, false, &rest))
                return other_user_internal(who, rest, out, err);
        if (takes_prefix(ns, name, ns->sharedprefix, false, &rest))
                return rest.p ? shared_internal(who, rest, out, err)
                              : err_set(err, ERR_BADNAME, "a namespace, not a mailbox");
        if (takes_prefix(ns, name, ns->altprefix, false, &rest))
                return rest.p ? own_internal(who, rest, out, err) : err_set(err, ERR_BADNAME, "a namespace, not a mailbox");
        return own_internal(who, name, out, err);
}

int mailname_internal(const struct namer *who, struct span external, struct arena *arena, const char **internal_r, struct err *err)
{
        struct str mutf7 = STR_INIT, out = STR_INIT;
        int ret = -1;

        if (wire_to_mutf7(who, external, &mutf7, err) < 0 || to_internal(who, str_span(&mutf7), &out, err) < 0)
                goto out;
        if (out.len > MAILNAME_MAX) {
                err_set(err, ERR_BADNAME, "mailbox name longer than %d octets", MAILNAME_MAX);
                goto out;
        }
        *internal_r = arena_strndup(arena, out.data, out.len);
        ret = 0;
out:
        str_deinit(&mutf7);
        str_deinit(&out);
        return ret;
}

/* ---- internal → external ---- */

static void append_external(const struct namespace *ns, const char *components, struct str *out)
{
        for (; *components; components++) {
                char c = *components;

                if (c == '.')
                        c = ns->sep;
                else if (c == '^' && ns->unixsep)
                        c = '.';
                str_append_c(out, c);
        }
}

/* Own folders at the top that look like INBOX or a namespace are shown below altprefix. */
static void own_alt_external(const struct namespace *ns, const char *rest, struct str *out)
{
        size_t start = out->len;
        struct span shown, ignored;

        append_external(ns, rest, out);
        shown = (struct span){ out->data + start, out->len - start };
        if (takes_prefix(ns, shown, "INBOX", true, &ignored) || takes_prefix(ns, shown, ns->userprefix, false, &ignored) ||
            takes_prefix(ns, shown, ns->sharedprefix, false, &ignored) || takes_prefix(ns, shown, ns->altprefix, false, &ignored)) {
                str_truncate(out, start);
                str_append_str(out, ns->altprefix);
                str_append_c(out, ns->sep);
                append_external(ns, rest, out);
        }
}

static void to_external(const struct namer *who, const char *internal, struct str *out)
{
        const struct namespace *ns = who->ns;
        struct span domain = domain_of(internal);
        const char *local = after_domain(internal), *own = who->is_admin ? NULL : rest_of_own(internal, who->userid);

        if (own) {
                if (!*own)
                        str_append_str(out, "INBOX");
                else if (ns->alt)
                        own_alt_external(ns, own + 1, out);
                else {
                        str_append_str(out, "INBOX");
                        append_external(ns, own, out);
                }
                return;
        }
        if (!ns->alt || who->is_admin) {
                append_external(ns, local, out);
        } else if (begins_with_component(local, "user", false)) {
                str_append_str(out, ns->userprefix);
                append_external(ns, local + 4, out);
        } else {
                str_append_str(out, ns->sharedprefix);
                str_append_c(out, ns->sep);
                append_external(ns, local, out);
        }
        if (domain.len && (who->is_admin || !span_eq(domain, userid_domain(who->userid)))) {
                str_append_c(out, '@');
                str_append_span(out, domain);
        } else if (who->is_admin && ns->virtdomains && strchr(local, '@')) {
                /* What an admin writes behind the last '@' is a domain: so this name has to have one. */
                str_append_c(out, '@');
                if (domain.len)
                        str_append_span(out, domain);
                else
                        str_append_str(out, ns->defaultdomain ? ns->defaultdomain : "");
        }
}

void mailname_external(const struct namer *who, const char *internal, struct str *out)
{
        size_t start = out->len;
        char *mutf7;
        size_t len;

        to_external(who, internal, out);
        len = out->len - start;
        if (!who->utf8 || !memchr(out->data + start, '&', len))
                return;
        mutf7 = xstrndup(out->data + start, len);
        str_truncate(out, start);
        if (mutf7_to_utf8((struct span){ mutf7, len }, out, NULL) < 0)
                str_append(out, mutf7, len);            /* not of our making; still better shown than hidden */
        free(mutf7);
}

/* ---- LIST patterns ---- */

#define PATTERN_MAX 4096

/* Runs of wildcards as one: '*' if there is one in it. Returns the length, -1 when there are too many. */
static int squeeze(struct span pattern, char *out)
{
        int len = 0, wildcards = 0;

        if (pattern.len > PATTERN_MAX)
                return -1;
        for (size_t i = 0; i < pattern.len; i++) {
                char c = pattern.p[i];

                if ((c == '*' || c == '%') && len && (out[len - 1] == '*' || out[len - 1] == '%')) {
                        if (c == '*')
                                out[len - 1] = '*';
                        continue;
                }
                if ((c == '*' || c == '%') && ++wildcards > MAILNAME_WILDCARDS_MAX)
                        return -1;
                out[len++] = c;
        }
        return len;
}

bool mailname_match(const char *external, struct span pattern, char sep)
{
        char p[PATTERN_MAX];
        bool here[PATTERN_MAX + 1], any = true;         /* here[j]: the name so far matches the first j of the pattern */
        int m = squeeze(pattern, p), literal = 0, from;
        size_t n = strlen(external), inbox = 0;

        if (m < 0)
                return false;
        if (strncmp(external, "INBOX", 5) == 0 && (!external[5] || external[5] == sep))
                inbox = 5;
#define SAME(i, j) ((i) < inbox ? ascii_upper(p[j]) == external[i] : p[j] == external[i])
        /* What stands before the first wildcard decides for nearly every name of a large list. */
        for (; literal < m && p[literal] != '*' && p[literal] != '%'; literal++)
                if ((size_t)literal >= n || !SAME((size_t)literal, literal))
                        return false;
        if (literal == m)
                return n == (size_t)m;
        if (m == literal + 1 && p[literal] == '*')
                return true;
        memset(here, 0, (size_t)m + 1);
        from = literal;
        here[from] = here[from + 1] = true;             /* the wildcard may stand for nothing */
        for (size_t i = (size_t)literal; i < n && any; i++) {
                /* From the end to the beginning, so that here[j - 1] is still the state before this character. */
                for (int j = m; j > from; j--)
                        switch (p[j - 1]) {
                        case '*':
                                break;                  /* stays as it is, and is completed below */
                        case '%':
                                here[j] = here[j] && external[i] != sep;
                                break;
                        default:
                                here[j] = here[j - 1] && SAME(i, j - 1);
                        }
                here[from] = any = false;
                for (int j = from + 1; j <= m; j++) {
                        if ((p[j - 1] == '*' || p[j - 1] == '%') && here[j - 1])
                                here[j] = true;
                        any |= here[j];
                }
        }
#undef SAME
        return here[m];
}
