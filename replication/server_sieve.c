/*
 * server_sieve - Sieve scripts as files (csync 3, 4, 17.5): "<name>.script" with its text; "<name>.bc", which is compiled from it and is never sent,
 * stands for "the active one" where one is named.
 */
#include "replication/server_private.h"
#include "store/sieve_files.h"

int sync_put_sieve(struct sync_peer *peer, const char *userid, struct err *err)
{
        static const uint8_t none[GUID_SIZE];
        struct sieve_script *list;
        struct dlist_writer w;
        uint32_t n;

        if (sieve_files_list(peer->store, userid, &peer->scratch, &list, &n, err) < 0)
                return -1;
        for (uint32_t i = 0; i < n; i++)
                for (int active = 0; active <= (list[i].active ? 1 : 0); active++) {
                        sync_line(peer, &w);
                        dlist_write_kvlist(&w, "SIEVE");
                        dlist_write_text(&w, "FILENAME", arena_printf(&peer->scratch, "%s.%s", list[i].name, active ? "bc" : "script"));
                        dlist_write_date(&w, "LAST_UPDATE", active ? 0 : list[i].last_update);
                        dlist_write_guid(&w, "GUID", active ? none : list[i].guid);
                        dlist_write_u64(&w, "ISACTIVE", (uint64_t)active);
                        dlist_write_end(&w);
                        sync_line_end(peer);
                }
        return 0;
}

/* Whose, and which file. False: answered. */
static bool file_of(struct sync_peer *peer, const char **userid_r, enum sieve_file_kind *kind_r, const char **name_r)
{
        struct span filename;

        if (dlist_text(peer->item, "USERID", userid_r) && sync_userid_ok(*userid_r) && dlist_str(peer->item, "FILENAME", &filename)) {
                *kind_r = sieve_file_name(filename, &peer->arena, name_r);
                if (*kind_r != SIEVE_FILE_OTHER)
                        return true;
        }
        sync_bad_parameters(peer, NULL, 0, "USERID or FILENAME");
        return false;
}

void sync_get_fetch_sieve(struct sync_peer *peer)
{
        const char *userid, *name;
        enum sieve_file_kind kind;
        struct span text;
        struct dlist_writer w;
        struct err err = ERR_INIT;

        if (!file_of(peer, &userid, &kind, &name))
                return;
        if (kind != SIEVE_FILE_SCRIPT) {
                sync_no(peer, replica_code_text(REPLICA_NONEXISTENT));
        } else if (sieve_files_read(peer->store, userid, name, &peer->arena, &text, &err) < 0) {
                sync_fail(peer, userid, &err);
        } else {
                sync_line(peer, &w);
                dlist_write_kvlist(&w, "SIEVE");
                dlist_write_text(&w, "USERID", userid);
                dlist_write_text(&w, "FILENAME", arena_printf(&peer->arena, "%s.script", name));
                dlist_write_str(&w, "CONTENT", text);
                dlist_write_end(&w);
                sync_line_end(peer);
                sync_ok(peer);
        }
}

static void answer(struct sync_peer *peer, int rc, const char *userid, const struct err *err)
{
        if (rc < 0)
                sync_fail(peer, userid, err);
        else
                sync_ok(peer);
}

void sync_apply_sieve(struct sync_peer *peer)
{
        const char *userid, *name;
        enum sieve_file_kind kind;
        struct span text;
        int64_t last_update;
        struct err err = ERR_INIT;

        if (!file_of(peer, &userid, &kind, &name))
                return;
        if (!dlist_date(peer->item, "LAST_UPDATE", &last_update) || !dlist_str(peer->item, "CONTENT", &text) || text.len > SIEVE_SCRIPT_MAX)
                sync_bad_parameters(peer, userid, 0, "LAST_UPDATE or CONTENT");
        else if (kind == SIEVE_FILE_BYTECODE)
                sync_ok(peer);
        else
                answer(peer, sieve_files_write(peer->store, userid, name, last_update, text, &err), userid, &err);
}

/* One that is gone already is no error: it is not there. */
void sync_apply_unsieve(struct sync_peer *peer)
{
        const char *userid, *name;
        enum sieve_file_kind kind;
        struct err err = ERR_INIT;
        int rc = 0;

        if (!file_of(peer, &userid, &kind, &name))
                return;
        if (kind == SIEVE_FILE_SCRIPT)
                rc = sieve_files_remove(peer->store, userid, name, &err);
        answer(peer, rc < 0 && err.code != ERR_NOTFOUND ? -1 : 0, userid, &err);
}

/* Of ".bc", as it is sent, and of ".script", as it is meant. */
void sync_apply_activate_sieve(struct sync_peer *peer)
{
        const char *userid, *name;
        enum sieve_file_kind kind;
        struct err err = ERR_INIT;

        if (file_of(peer, &userid, &kind, &name))
                answer(peer, sieve_files_activate(peer->store, userid, name, &err), userid, &err);
}

void sync_apply_unactivate_sieve(struct sync_peer *peer)
{
        const char *userid;
        struct err err = ERR_INIT;

        if (!dlist_text(peer->item, "USERID", &userid) || !sync_userid_ok(userid))
                sync_bad_parameters(peer, NULL, 0, "USERID");
        else
                answer(peer, sieve_files_activate(peer->store, userid, NULL, &err), userid, &err);
}
