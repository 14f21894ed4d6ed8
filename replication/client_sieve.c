/*
 * client_sieve - a user's Sieve scripts as files (csync 10.5; SIEVE-MAILBOX is not turned on). Only the source goes: the replica compiles. Of the
 * replica's "<name>.bc" lines only that they mark the active script matters, and that one without counterpart is removed.
 */
#include "replication/client_private.h"

#include "store/sieve_files.h"

static enum client_result send_file(struct client *c, const char *key, const char *userid, const char *name, const char *suffix, struct err *err)
{
        struct str file = STR_INIT;
        enum client_result r;

        str_printf(&file, "%s%s", name, suffix);
        client_say(c, "%s %s %s", key, userid, file.data);
        client_begin(c, "APPLY");
        dlist_write_kvlist(&c->w, key);
        dlist_write_text(&c->w, "USERID", userid);
        if (*file.data)
                dlist_write_text(&c->w, "FILENAME", file.data);
        dlist_write_end(&c->w);
        str_deinit(&file);
        r = client_finish(c, NULL, err);
        if (r == CLIENT_FAILED && strcmp(key, "UNSIEVE") == 0 && client_replied(c, "IMAP_MAILBOX_NONEXISTENT")) {
                err_clear(err);
                r = CLIENT_OK;
        }
        return r;
}

static enum client_result send_script(struct client *c, const char *userid, const struct sieve_script *s, struct err *err)
{
        struct dlist_writer *w = &c->w;
        struct arena arena = ARENA_INIT;
        struct str file = STR_INIT;
        struct span text;
        enum client_result r = CLIENT_OK;

        if (sieve_files_read(c->store, userid, s->name, &arena, &text, err) < 0)
                r = err->code == ERR_NOTFOUND ? (err_clear(err), CLIENT_OK) : CLIENT_FAILED;    /* gone since it was listed: the next run's */
        else {
                str_printf(&file, "%s.script", s->name);
                client_say(c, "SIEVE %s %s", userid, file.data);
                client_begin(c, "APPLY");
                dlist_write_kvlist(w, "SIEVE");
                dlist_write_text(w, "USERID", userid);
                dlist_write_text(w, "FILENAME", file.data);
                dlist_write_date(w, "LAST_UPDATE", s->last_update);
                dlist_write_str(w, "CONTENT", text);
                dlist_write_end(w);
                r = client_finish(c, NULL, err);
        }
        str_deinit(&file);
        arena_deinit(&arena);
        return r;
}

/* The replica's line of this file. */
static struct meta_script *find_theirs(struct meta *m, const char *name, const char *suffix)
{
        size_t n = strlen(name);

        for (size_t i = 0; i < m->scripts.n; i++)
                if (strncmp(m->scripts.v[i].filename, name, n) == 0 && strcmp(m->scripts.v[i].filename + n, suffix) == 0)
                        return &m->scripts.v[i];
        return NULL;
}

static bool is_null(const uint8_t guid[GUID_SIZE])
{
        static const uint8_t null[GUID_SIZE];

        return memcmp(guid, null, GUID_SIZE) == 0;
}

static bool is_current(const struct meta_script *theirs, const struct sieve_script *ours)
{
        if (!theirs)
                return false;
        return is_null(theirs->guid) ? theirs->last_update >= ours->last_update : memcmp(theirs->guid, ours->guid, GUID_SIZE) == 0;
}

enum client_result meta_sync_sieve(struct client *c, const char *userid, struct meta *m, struct err *err)
{
        struct arena arena = ARENA_INIT;
        enum client_result r = CLIENT_OK;
        struct sieve_script *list;
        const char *active = NULL, *active_there = NULL;
        uint32_t n;

        /* Scripts belong to an INBOX. Who is not here may be there: nothing of his is taken away. */
        if (!client_has_inbox(c, userid, &arena) || sieve_files_list(c->store, userid, &arena, &list, &n, err) < 0) {
                arena_deinit(&arena);
                return err->code == ERR_NONE ? CLIENT_OK : CLIENT_FAILED;
        }
        for (uint32_t i = 0; i < n && r == CLIENT_OK; i++) {
                struct meta_script *theirs = find_theirs(m, list[i].name, ".script"), *compiled = find_theirs(m, list[i].name, ".bc");

                if (theirs)
                        theirs->ours = true;
                if (compiled) {
                        compiled->ours = true;
                        if (compiled->active)
                                active_there = list[i].name;
                }
                if (list[i].active)
                        active = list[i].name;
                if (!is_current(theirs, &list[i]))
                        r = send_script(c, userid, &list[i], err);
        }
        for (size_t i = 0; i < m->scripts.n && r == CLIENT_OK; i++)
                if (!m->scripts.v[i].ours)
                        r = send_file(c, "UNSIEVE", userid, m->scripts.v[i].filename, "", err);
        if (r == CLIENT_OK && active && (!active_there || strcmp(active, active_there) != 0))
                r = send_file(c, "ACTIVATE_SIEVE", userid, active, ".bc", err);
        else if (r == CLIENT_OK && !active && active_there)
                r = send_file(c, "UNACTIVATE_SIEVE", userid, "", "", err);
        arena_deinit(&arena);
        return r;
}

bool meta_same_sieve(struct client *c, const char *userid, struct meta *m, struct err *err)
{
        struct arena arena = ARENA_INIT;
        struct sieve_script *list;
        uint32_t n, scripts = 0;
        bool same = sieve_files_list(c->store, userid, &arena, &list, &n, err) == 0;

        for (size_t i = 0; i < m->scripts.n; i++)
                scripts += strstr(m->scripts.v[i].filename, ".script") != NULL;
        for (uint32_t i = 0; same && i < n; i++) {
                const struct meta_script *compiled = find_theirs(m, list[i].name, ".bc");

                same = is_current(find_theirs(m, list[i].name, ".script"), &list[i]) && list[i].active == (compiled && compiled->active);
        }
        same = same && scripts == n;
        arena_deinit(&arena);
        return same;
}
