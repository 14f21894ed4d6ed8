/*
 * mailname_fuzz - the first octet chooses the rules and who asks, the rest is a name, a NUL, and a LIST pattern. A name that is
 * accepted is a possible internal name, and what is shown for it leads back to it.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "store/mailname.h"
#include "t/store/conf_text.h"
#include "util/must.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct namespace *rules(unsigned which)
{
        static struct namespace *made[8];

        if (!made[which]) {
                char text[200];
                struct conf *conf;

                snprintf(text, sizeof text, "altnamespace: %d\nunixhierarchysep: %d\nvirtdomains: %s\ndefaultdomain: main.org\n",
                         which & 1, which >> 1 & 1, which & 4 ? "userid" : "off");
                conf = conf_text(text);
                made[which] = namespace_create(conf);
                conf_unref(&conf);
        }
        return made[which];
}

/* INBOX below an INBOX can be written by its internal name only. */
static bool inbox_below_inbox(const char *internal)
{
        const char *p = strstr(internal, "user.");
        struct span box;

        if (!p || !(p = strchr(p + 5, '.')))
                return false;
        box = (struct span){ p + 1, strcspn(p + 1, ".") };
        return span_ieq_str(box, "INBOX");
}

static void check_name(const struct namer *who, struct span external)
{
        struct arena arena = ARENA_INIT;
        struct str shown = STR_INIT;
        struct err err = ERR_INIT;
        const char *internal, *again;

        if (mailname_internal(who, external, &arena, &internal, &err) < 0) {
                must(err.code == ERR_BADNAME && err.text[0]);
                arena_deinit(&arena);
                return;
        }
        must(strlen(internal) <= MAILNAME_MAX && *internal);
        for (const char *p = internal; *p; p++)
                must(*p >= ' ' && *p <= '~' && *p != '/' && *p != '%' && *p != '"' && *p != '\\');
        must(mailname_compare(internal, internal) == 0);
        mailname_external(who, internal, &shown);
        must(shown.len && mailname_match(shown.data, SPAN("*"), namespace_separator(who->ns)));
        if (mailname_internal(who, str_span(&shown), &arena, &again, &err) == 0)
                must(strcmp(internal, again) == 0);
        else
                must(inbox_below_inbox(internal));
        (void)mailname_check_new(internal, who->is_admin, NULL);
        (void)mailname_owner(internal, &arena);
        for (again = internal; (again = mailname_parent(again, &arena)) != NULL;)
                must(mailname_is_below(internal, again));
        str_deinit(&shown);
        arena_deinit(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static const char *const users[] = { "joe", "jo.e", "joe@b.org", "" };
        struct namer who = { 0 };
        const char *text = (const char *)data + 1, *nul;

        if (size < 1)
                return 0;
        /* Whether there are virtual domains is one answer for the process: the rules must be those that were asked for last. */
        who.ns = rules(data[0] & 7);
        {
                struct conf *conf = conf_text(data[0] & 4 ? "virtdomains: userid\n" : "virtdomains: off\n");
                struct namespace *set = namespace_create(conf);

                namespace_unref(&set);
                conf_unref(&conf);
        }
        who.userid = users[data[0] >> 3 & 3];
        who.is_admin = data[0] >> 5 & 1;
        who.utf8 = data[0] >> 6 & 1;
        size--;
        nul = memchr(text, '\0', size);
        check_name(&who, (struct span){ text, nul ? (size_t)(nul - text) : size });
        if (nul) {
                char *name = xstrdup(text);
                struct span pattern = { nul + 1, size - (size_t)(nul + 1 - text) };

                (void)mailname_match(name, pattern, '/');
                if (strlen(name) < 4096 && !strpbrk(name, "*%"))
                        must(mailname_match(name, span_of(name), '/'));
                free(name);
        }
        return 0;
}
