/*
 * THREAD and UID THREAD (RFC 5256; REFS: draft-ietf-morg-inthread 4). Search, learn what headers say, build the threads
 * (store/thread.h), print them: each in slices.
 */
#include "server/imap/search_private.h"

#include <stdlib.h>

#include "store/thread.h"
#include "util/array.h"
#include "util/must.h"

#define AT_ONCE 2048                            /* messages, between two looks at the clock */
#define PRINT_AT_ONCE 65536

struct thread_state {
        struct search_request req;
        enum thread_algorithm algorithm;
        struct search_run run;
        struct sort_set set;
        struct thread_message *messages;
        struct thread_job *job;
        enum { THREAD_SEARCH, THREAD_LOAD, THREAD_BUILD, THREAD_ANSWER } at;
};

static void cleanup(struct imap *imap)
{
        struct thread_state *st = imap->cmd.state;

        search_run_end(&st->run);
        thread_destroy(&st->job);
        free(st->messages);
        sort_set_deinit(&st->set);
}

static int parse_algorithm(struct imap_parser *ip, enum thread_algorithm *algorithm_r)
{
        static const struct { const char *name; enum thread_algorithm algorithm; } rows[] = {
                { "ORDEREDSUBJECT", THREAD_ORDEREDSUBJECT }, { "REFERENCES", THREAD_REFERENCES }, { "REFS", THREAD_REFS },
        };
        struct span w;

        if (imap_atom(ip, &w) < 0)
                return -1;
        for (size_t i = 0; i < ARRAY_LEN(rows); i++)
                if (imap_word_is(w, rows[i].name)) {
                        *algorithm_r = rows[i].algorithm;
                        return 0;
                }
        return err_set(&ip->err, ERR_SYNTAX, "Unknown threading algorithm");
}

static bool begin(struct imap *imap)
{
        struct thread_state *st = imap->cmd.state = ARENA_NEW(&imap->s->arena, struct thread_state);
        struct imap_parser *ip = &imap->cmd.args;
        struct search_sets sets;
        struct err err = ERR_INIT;

        imap->cmd.cleanup = cleanup;
        sets = search_sets_selected(imap);
        if (imap_sp(ip) < 0 || parse_algorithm(ip, &st->algorithm) < 0 || imap_sp(ip) < 0 ||
            search_parse_charset_keys(ip, &sets, &st->req) < 0) {
                search_parse_failed(imap, &st->req);
                return false;
        }
        if (!search_program_allowed(imap, &st->req))
                return false;
        if (st->req.program->uses_modseq)
                imap_enable_condstore(imap);
        search_run_selected(&st->run, imap);
        st->run.program = st->req.program;
        st->run.found = sort_set_found;
        st->run.ctx = &st->set;
        if (search_run_begin(&st->run, NULL, &err) < 0) {
                imap_fail(imap, &err);
                return false;
        }
        return true;
}

static void begin_threads(struct imap *imap, struct thread_state *st)
{
        st->messages = xcalloc(st->set.n ? st->set.n : 1, sizeof *st->messages);
        for (uint32_t i = 0; i < st->set.n; i++)
                st->messages[i] = (struct thread_message){
                        .number = imap->cmd.uid ? st->set.v[i].uid : st->set.v[i].seqno,
                        .sent = st->set.v[i].sent, .internaldate = st->set.v[i].internaldate, .facts = st->set.facts[i],
                };
        st->job = thread_create(st->algorithm, st->messages, st->set.n);
}

static bool put_threads(struct imap *imap, struct thread_state *st)
{
        struct str out = STR_INIT;
        bool done = false;

        while (!done && imap->s->out.bytes <= ROPE_HIGH) {
                done = thread_print(st->job, &out, PRINT_AT_ONCE);
                rope_append_span(&imap->s->out, str_span(&out));
                str_clear(&out);
        }
        str_deinit(&out);
        return done;
}

enum cmd_result cmd_thread(struct imap *imap)
{
        struct thread_state *st;
        enum cmd_result result;

        if (!imap->cmd.state && !search_cmd_begin(imap, begin, &result))
                return result;
        st = imap->cmd.state;
        switch (st->at) {
        case THREAD_SEARCH:
                result = search_run_step(&st->run);
                if (result != CMD_DONE)
                        return result;
                if (st->run.err.code != ERR_NONE)
                        return search_run_reply(imap, &st->run, "THREAD");
                st->at = THREAD_LOAD;
                /* fall through */
        case THREAD_LOAD:
                if (!sort_set_load(&st->set, imap->sel->mbox, imap->s))
                        return CMD_AGAIN;
                begin_threads(imap, st);
                st->at = THREAD_BUILD;
                /* fall through */
        case THREAD_BUILD:
                while (!thread_run(st->job, AT_ONCE))
                        if (session_slice_over(imap->s))
                                return CMD_AGAIN;
                imap_put(imap, st->set.n ? "* THREAD " : "* THREAD");
                st->at = THREAD_ANSWER;
                /* fall through */
        case THREAD_ANSWER:
                if (!put_threads(imap, st))
                        return CMD_FLUSH;
        }
        imap_put(imap, "\r\n");
        return search_run_reply(imap, &st->run, "THREAD");
}
