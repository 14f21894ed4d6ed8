/* specialuse - see specialuse.h. */
#include <string.h>

#include "store/mailname.h"
#include "store/specialuse.h"
#include "util/array.h"

static const char *const known[] = { "\\Archive", "\\Drafts", "\\Important", "\\Junk", "\\Sent", "\\Trash" };

/* The next blank-separated word; false: no more. */
static bool next_word(struct span *rest, struct span *word_r)
{
        size_t n;

        *rest = span_trim(*rest);
        n = span_index(*rest, ' ');
        *word_r = (struct span){ rest->p, n };
        *rest = (struct span){ rest->p + n, rest->len - n };
        return n > 0;
}

const char *specialuse_known(const struct conf *conf, const char *service, struct span attribute, struct arena *arena)
{
        const char *extra = conf_str(conf, service, "specialuse_extra");
        struct span rest = span_of(extra ? extra : ""), word;

        for (size_t i = 0; i < ARRAY_LEN(known); i++)
                if (span_ieq_str(attribute, known[i]))
                        return known[i];
        while (next_word(&rest, &word))
                if (word.p[0] == '\\' && word.len == attribute.len && strncasecmp(word.p, attribute.p, word.len) == 0)
                        return arena_strndup(arena, word.p, word.len);
        return NULL;
}

int specialuse_check(struct conf *conf, const char *text, struct arena *arena, const char **uses_r, struct err *err)
{
        struct span rest = span_of(text), word;
        struct str uses = STR_INIT;
        int ret = 0;

        while (ret == 0 && next_word(&rest, &word)) {
                const char *use = specialuse_known(conf, NULL, word, arena);

                if (use)
                        str_printf(&uses, "%s%s", uses.len ? " " : "", use);
                else
                        ret = err_set(err, ERR_UNSUPPORTED, "%.*s is no special use (\\Archive \\Drafts \\Important \\Junk \\Sent \\Trash, "
                                      "and those of specialuse_extra, are)", (int)(word.len < 60 ? word.len : 60), word.p);
        }
        *uses_r = arena_strndup(arena, uses.len ? uses.data : "", uses.len);
        str_deinit(&uses);
        return ret;
}

static bool share_one(const char *a, const char *b)
{
        struct span rest = span_of(a), word;

        while (next_word(&rest, &word)) {
                struct span others = span_of(b), other;

                while (next_word(&others, &other))
                        if (span_eq(word, other))
                                return true;
        }
        return false;
}

bool specialuse_taken(struct mboxlist *ml, const char *name, const char *uses)
{
        struct arena arena = ARENA_INIT;
        const struct mbentry *entries[64];
        const char *owner = mailname_owner(name, &arena), *inbox, *after;
        bool taken = false;
        unsigned n;

        if (!owner || !*uses)
                goto out;
        inbox = mailname_inbox_of(owner, &arena);
        after = inbox;                                  /* the INBOX itself bears none */
        do {
                n = mboxlist_next(ml, inbox, after, entries, 64);
                if (n)
                        after = arena_strdup(&arena, entries[n - 1]->name);
                for (unsigned i = 0; i < n; i++) {
                        const char *use = entries[i]->specialuse;

                        taken |= use && *use && strcmp(entries[i]->name, name) != 0 && share_one(uses, use);
                        mbentry_unref(&entries[i]);
                }
        } while (n == 64 && !taken);
out:
        arena_deinit(&arena);
        return taken;
}
