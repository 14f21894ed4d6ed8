/*
 * sites - syncs taken out: where one had something to do, and until another does its work, states are made that lose just that. One of
 * them has to show it (t/crash/README.md).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "t/crash/powerloss.h"

/* Run `fn` in a child, as what it advances is never taken back. */
static int in_child(int (*fn)(void *ctx), void *ctx)
{
        pid_t pid;
        int status;

        fflush(stdout);
        pid = fork();
        if (pid == 0) {
                int rc = fn(ctx);

                fflush(stdout);
                _exit(rc);
        }
        waitpid(pid, &status, 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

/* A sync taken out: what it would have made durable is not from its end until another sync does it. */
struct gap { struct victim victim; uint32_t from, to; };

struct site_run {
        const char *scratch, *name;
        ARRAY(struct gap) gaps;
        ARRAY(struct state) states;
        unsigned *at;                   /* in memory that children share */
};

/* Did the sync `s` of `n` find something that no earlier one had made durable? */
static bool had_work(const struct node *n, const struct sync *s)
{
        uint32_t before = 0;

        for (size_t i = 0; i < n->syncs.n; i++)
                if (n->syncs.v[i].end && n->syncs.v[i].end <= s->begin && n->syncs.v[i].begin > before && !is_dropped(n->syncs.v[i].site))
                        before = n->syncs.v[i].begin;
        if (!n->is_dir) {
                for (size_t i = 0; i < n->writes.n && n->writes.v[i].seq < s->begin; i++)
                        if (n->writes.v[i].seq >= before)
                                return true;
                return false;
        }
        for (size_t i = 0; i < rec.names.n && rec.names.v[i].seq < s->begin; i++)
                if (rec.names.v[i].dir == n && rec.names.v[i].seq >= before)
                        return true;
        return false;
}

static int by_from(const void *a, const void *b)
{
        const struct gap *x = a, *y = b;

        return x->from < y->from ? -1 : x->from > y->from;
}

static void find_gaps(struct site_run *r)
{
        for (size_t i = 0; i < rec.nodes.n; i++) {
                struct node *n = rec.nodes.v[i];

                for (size_t k = 0; k < n->syncs.n; k++) {
                        const struct sync *s = &n->syncs.v[k];
                        uint32_t to = rec.events;

                        if (!is_dropped(s->site) || !s->end || !had_work(n, s))
                                continue;
                        for (size_t j = 0; j < n->syncs.n; j++) {
                                const struct sync *other = &n->syncs.v[j];

                                if (other->begin > s->begin && other->end && other->end < to && !is_dropped(other->site))
                                        to = other->end;
                        }
                        if (n->gone > s->end && n->gone < to)           /* what it held is of no use any more */
                                to = n->gone;
                        if (to > s->end + 1)
                                *ARRAY_PUSH(&r->gaps) = (struct gap){ { n, s->begin }, s->end + 1, to };
                }
        }
        if (r->gaps.n)
                qsort(r->gaps.v, r->gaps.n, sizeof *r->gaps.v, by_from);
}

/* The moment after the first note of the gap beyond `from`. */
static uint32_t next_note(const struct gap *g, uint32_t from)
{
        for (size_t i = 0; i < rec.notes.n; i++)
                if (rec.notes.v[i].seq >= from && rec.notes.v[i].text[0] != 'B')
                        return rec.notes.v[i].seq + 1 < g->to ? rec.notes.v[i].seq + 1 : g->to;
        return g->to;
}

/* The last moment before the databases are dumped and copied again: what was changed since they were is in their log only. */
static uint32_t before_dump(const struct gap *g)
{
        uint32_t seq = g->to;

        for (size_t i = 0; i < rec.notes.n && rec.notes.v[i].seq < g->to; i++)
                if (rec.notes.v[i].seq > g->from && strcmp(rec.notes.v[i].text, "dump") == 0)
                        seq = rec.notes.v[i].seq;
        return seq;
}

static int by_cut(const void *a, const void *b)
{
        const struct state *x = a, *y = b;

        return x->cut != y->cut ? (x->cut < y->cut ? -1 : 1) : x->mode != y->mode ? x->mode - y->mode : x->damage - y->damage;
}

/* The first rounds look closer and closer at some of the gaps, the last one at the ends of as good as all. */
static const struct { unsigned gaps, cuts, modes; bool damaged; } rounds_table[SITE_ROUNDS] = {
        { 6, 2, 3, false }, { 16, 11, 5, true }, { 30, 11, 5, true }, { 400, 2, 2, true },
};

static void choose_states(struct site_run *r, unsigned round)
{
        unsigned max = rounds_table[round].gaps, seed = round * 77 + 1;

        r->states.n = 0;
        for (unsigned i = 0; i < max && i < r->gaps.n; i++) {
                const struct gap *g = &r->gaps.v[r->gaps.n <= max ? i : (size_t)i * r->gaps.n / max];
                uint32_t note = next_note(g, g->from), later = next_note(g, note + 1), len = g->to - g->from;
                uint32_t cuts[] = { g->to, before_dump(g), note, g->from, later, g->from + (uint32_t)rand_r(&seed) % len,
                                    g->from + 1, g->from + 2, g->from + 4, g->from + 8, g->from + 16 };
                static const int modes[] = { LOST_ALL, GONE_NONE, GONE_ALL, LOST_NONE, TORN_ALL };

                for (unsigned c = 0; c < rounds_table[round].cuts; c++) {
                        if (cuts[c] > g->to || (c == 1 && cuts[1] == cuts[0]))
                                continue;
                        for (unsigned m = 0; m < rounds_table[round].modes; m++)
                                for (int damage = DAMAGE_NONE; damage <= (rounds_table[round].damaged ? DAMAGE_UNMOUNTED : DAMAGE_NONE);
                                     damage++) {
                                        /* Damage only at the ends of gaps: it is rarely what matters. */
                                        if (damage != DAMAGE_NONE && (c > 2 || m > 1))
                                                continue;
                                        *ARRAY_PUSH(&r->states) = (struct state){ .cut = cuts[c], .mode = modes[m], .damage = damage,
                                                                                  .victim = g->victim, .seed = (unsigned)rand_r(&seed) };
                                }
                }
        }
        if (r->states.n)
                qsort(r->states.v, r->states.n, sizeof *r->states.v, by_cut);
}

/* The same state of a disk that honoured all syncs: 1 when that is not right either, and so says nothing about the one taken out. */
static int try_control(void *ctx)
{
        struct site_run *r = ctx;
        const struct state *st = &r->states.v[*r->at];
        char why[1200];
        bool skipped;
        int rc;

        ARRAY_FREE(&dropped);
        if ((rc = try_state(r->scratch, st, &skipped, why, sizeof why)) != 0)
                print_state("wrong with all syncs, too:", *r->at, st, why);
        return rc;
}

/* States from *r->at on; 1 when one shows what is missing, and *r->at is its number. */
static int try_states(void *ctx)
{
        struct site_run *r = ctx;

        for (; *r->at < r->states.n; ++*r->at) {
                char why[1200];
                bool skipped;

                if (try_state(r->scratch, &r->states.v[*r->at], &skipped, why, sizeof why)) {
                        print_state("noticed at", *r->at, &r->states.v[*r->at], why);
                        return 1;
                }
        }
        return 0;
}

/* A line of the list of sites: hashes, a tab, a name. 0 when taking the sync out is noticed. */
static int try_site(const char *scratch, char *line, unsigned rounds)
{
        struct site_run r = { .scratch = scratch };
        char *tab = strchr(line, '\t'), *end;
        bool noticed = false;
        size_t tried = 0;

        r.at = mmap(NULL, sizeof *r.at, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (!tab || r.at == MAP_FAILED)
                return 1;
        *tab = '\0';
        r.name = tab + 1;
        for (char *p = line; *p; p = end) {
                uint32_t site = (uint32_t)strtoul(p, &end, 16);

                if (end == p)
                        break;
                *ARRAY_PUSH(&dropped) = site;
        }
        find_gaps(&r);
        for (unsigned round = 0; round < rounds && !noticed && r.gaps.n; round++) {
                choose_states(&r, round);
                tried += r.states.n;
                for (*r.at = 0; !noticed && *r.at < r.states.n; ++*r.at)
                        noticed = in_child(try_states, &r) == 1 && in_child(try_control, &r) == 0;
        }
        printf("%s - without the sync in %s something is lost\n", noticed ? "ok" : "not ok", r.name);
        if (!noticed)
                printf("# %zu states of %zu gaps show nothing\n", tried, r.gaps.n);
        return !noticed;
}

unsigned run_sites(const char *scratch, const char *list, unsigned from, unsigned step, unsigned rounds)
{
        FILE *f = fopen(list, "r");
        char line[8192];
        unsigned bad = 0;

        for (unsigned i = 0; f && fgets(line, sizeof line, f); i++) {
                pid_t pid;
                int status;

                if (i % step != from)
                        continue;
                line[strcspn(line, "\n")] = '\0';
                fflush(stdout);
                pid = fork();
                if (pid == 0) {
                        int rc = try_site(scratch, line, rounds);

                        fflush(stdout);
                        _exit(rc);
                }
                waitpid(pid, &status, 0);
                bad += !WIFEXITED(status) || WEXITSTATUS(status);
        }
        if (f)
                fclose(f);
        return bad;
}
