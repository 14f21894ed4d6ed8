/*
 * top - see top.h.
 *
 * Rates are differences of counters between two looks. The first look takes all sessions, later ones only those that did something since
 * (and all again now and then, so that those that ended are forgotten): with thousands of idle clients a picture stays cheap. What a
 * session that was quiet moved is what it had moved when last heard of.
 */
#include "server/ctl/top.h"

#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/ctl/table.h"
#include "server/ctl/term.h"
#include "util/array.h"
#include "util/clock.h"
#include "util/hash.h"
#include "util/str.h"

#define INTERVAL_DEFAULT_MS 2000
#define LINES_DEFAULT 20                        /* without a terminal */
#define ALL_EVERY 20                            /* looks */
#define COLUMNS_PLAIN 160

enum order { BY_RATE, BY_IN, BY_OUT, BY_IDLE, BY_AGE, BY_USER, ORDERS };
static const char *const order_names[ORDERS] = { "rate", "in", "out", "idle", "age", "user" };

enum counter { ACCEPTED, REFUSED, LOGINS, FAILURES, DELIVERED, ADDED, EXPUNGED, COMMITS, SYNCS, BYTES_IN, BYTES_OUT, COUNTERS };
static const char *const counter_names[COUNTERS] = { "accepted", "refused", "logins", "login_failures", "delivered", "added", "expunged",
                                                     "commits", "syncs", "bytes_in", "bytes_out" };

struct seen {                                   /* a session */
        json_t *row;                            /* of the last look that had it */
        uint64_t in, out;                       /* octets */
        double rate_in, rate_out;               /* octets a second */
        uint64_t heard_ms;
        unsigned look;
};

struct line {                                   /* of a picture: a session, or a user's together */
        const char *user, *service, *peer, *mailbox, *command, *session;
        double rate_in, rate_out;
        uint64_t sessions, idle_s, age_s, in, out;
};

struct top {
        struct ctl_client *outer, client;       /* as cyrctl was called; with our own connection and rows */
        uint64_t interval_ms, count, lines;
        enum order order;
        bool users, live;
        struct table *sessions;                 /* name → struct seen */
        json_t *daemon;                         /* the last look's row */
        double now[COUNTERS], rates[COUNTERS];
        double cpu_s, cpu_percent;
        uint64_t at_ms;                         /* the daemon's clock at the last look */
        uint64_t here_ms;                       /* ours */
        unsigned look;
        bool all;                               /* this look asked for all sessions */
        double since_s;                         /* from the look before; 0: there was none */
        struct arena arena;                     /* a picture's */
};

/* ---- looking ------------------------------------------------------------------------------------------------------------------ */

static uint64_t number(const json_t *row, const char *key)
{
        json_int_t n = json_integer_value(json_object_get(row, key));

        return n > 0 ? (uint64_t)n : 0;
}

static const char *text(const json_t *row, const char *key)
{
        const char *s = json_string_value(json_object_get(row, key));

        return s ? s : "";
}

static void take_daemon(struct top *t, json_t *row)
{
        const json_t *totals = json_object_get(row, "totals");
        uint64_t at = number(row, "time_ms");
        double cpu = json_number_value(json_object_get(row, "cpu_s"));

        t->since_s = t->daemon && at > t->at_ms ? (double)(at - t->at_ms) / 1000 : 0;
        for (int c = 0; c < COUNTERS; c++) {
                double n = (double)number(totals, counter_names[c]);

                t->rates[c] = t->since_s > 0 && n > t->now[c] ? (n - t->now[c]) / t->since_s : 0;
                t->now[c] = n;
        }
        t->cpu_percent = t->since_s > 0 && cpu > t->cpu_s ? (cpu - t->cpu_s) * 100 / t->since_s : 0;
        t->cpu_s = cpu;
        t->at_ms = at;
        json_decref(t->daemon);
        t->daemon = json_incref(row);
}

static void take_session(struct top *t, json_t *row)
{
        struct span name = span_of(text(row, "session"));
        struct seen *s = table_find(t->sessions, name);
        uint64_t in = number(row, "bytes_in"), out = number(row, "bytes_out");

        if (!s) {
                s = xcalloc(1, sizeof *s);
                table_set(t->sessions, name, s);
        }
        /* One that we did not know of has begun since the last look: all it moved is new. */
        s->rate_in = t->since_s > 0 && in > s->in ? (double)(in - s->in) / t->since_s : 0;
        s->rate_out = t->since_s > 0 && out > s->out ? (double)(out - s->out) / t->since_s : 0;
        s->in = in;
        s->out = out;
        s->look = t->look;
        s->heard_ms = clock_mono_ms();
        json_decref(s->row);
        s->row = json_incref(row);
}

static void take_row(void *ctx, json_t *row)
{
        struct top *t = ctx;
        const char *kind = text(row, "kind");

        if (strcmp(kind, "daemon") == 0)
                take_daemon(t, row);
        else if (strcmp(kind, "session") == 0)
                take_session(t, row);
}

static void forget(struct top *t, struct span name, struct seen *s)
{
        table_set(t->sessions, name, NULL);
        json_decref(s->row);
        free(s);
}

/* Sessions that this look did not tell of were quiet; where it told of all, they are gone. */
static void settle(struct top *t)
{
        struct span name;
        void *value;
        size_t pos = 0;

        while (table_next(t->sessions, &pos, &name, &value)) {
                struct seen *s = value;

                if (s->look == t->look)
                        continue;
                s->rate_in = s->rate_out = 0;
                if (t->all)
                        forget(t, name, s);
        }
}

static int look(struct top *t, struct err *err)
{
        uint64_t now = clock_mono_ms();
        json_t *args = json_object();

        t->all = t->look % ALL_EVERY == 0;
        if (!t->all)
                json_object_set_new(args, "quiet_max_ms", json_integer((json_int_t)(now - t->here_ms + 1000)));
        t->here_ms = now;
        if (ctl_client_call(&t->client, "top", args, err) < 0)
                return -1;
        settle(t);
        t->look++;
        return 0;
}

/* ---- lines -------------------------------------------------------------------------------------------------------------------- */

static struct line session_line(const struct seen *s)
{
        uint64_t quiet_s = (clock_mono_ms() - s->heard_ms) / 1000;

        return (struct line){ .user = text(s->row, "user"), .service = text(s->row, "service"), .peer = text(s->row, "peer"),
                              .mailbox = text(s->row, "mailbox"), .command = text(s->row, "command"), .session = text(s->row, "session"),
                              .rate_in = s->rate_in, .rate_out = s->rate_out, .sessions = 1, .idle_s = number(s->row, "idle_s") + quiet_s,
                              .age_s = number(s->row, "age_s") + quiet_s, .in = s->in, .out = s->out };
}

static int cmp_number(double a, double b)
{
        return a > b ? -1 : a < b ? 1 : 0;
}

static int cmp_order(enum order order, const struct line *a, const struct line *b)
{
        switch (order) {
        case BY_RATE: return cmp_number(a->rate_in + a->rate_out, b->rate_in + b->rate_out);
        case BY_IN: return cmp_number(a->rate_in, b->rate_in);
        case BY_OUT: return cmp_number(a->rate_out, b->rate_out);
        case BY_IDLE: return cmp_number((double)b->idle_s, (double)a->idle_s);          /* the least idle first */
        case BY_AGE: return cmp_number((double)a->age_s, (double)b->age_s);             /* the oldest first */
        case BY_USER: return strcmp(a->user, b->user);
        case ORDERS: break;
        }
        return 0;
}

static int cmp_line(const void *pa, const void *pb, void *ctx)
{
        const struct line *a = pa, *b = pb;
        int by = cmp_order(*(const enum order *)ctx, a, b);

        if (by == 0)
                by = cmp_order(BY_IDLE, a, b);
        if (by == 0)
                by = strcmp(a->user, b->user);
        return by ? by : strcmp(a->session, b->session);
}

static void add_up(struct line *user, const struct line *l)
{
        user->sessions++;
        user->rate_in += l->rate_in;
        user->rate_out += l->rate_out;
        user->in += l->in;
        user->out += l->out;
        if (l->idle_s < user->idle_s)
                user->idle_s = l->idle_s;
        if (l->age_s > user->age_s)
                user->age_s = l->age_s;
}

/* What a picture has, in its order. */
static struct line *lines(struct top *t, size_t *n_r)
{
        size_t n = 0, pos = 0;
        struct line *v = ARENA_ARRAY(&t->arena, struct line, table_count(t->sessions) + 1);
        struct table *users = t->users ? table_create() : NULL;
        struct span name;
        void *value;

        while (table_next(t->sessions, &pos, &name, &value)) {
                struct line l = session_line(value), *together;

                /* cyrctl's own, this one too, are no news. */
                if (strcmp(text(((struct seen *)value)->row, "protocol"), "control") == 0)
                        continue;
                together = users ? table_find(users, span_of(l.user)) : NULL;
                if (together) {
                        add_up(together, &l);
                        continue;
                }
                v[n] = l;
                if (users)
                        table_set(users, span_of(l.user), &v[n]);
                n++;
        }
        table_destroy(&users);
        qsort_r(v, n, sizeof *v, cmp_line, &t->order);
        *n_r = n;
        return v;
}

/* ---- showing ------------------------------------------------------------------------------------------------------------------ */

/* "0", "812", "3.4K", "120M": at most five characters. */
static const char *short_number(struct arena *arena, double n)
{
        static const char units[] = " KMGTP";
        int u = 0;

        while (n >= 999.5 && units[u + 1]) {
                n /= 1024;
                u++;
        }
        if (u == 0)
                return arena_printf(arena, n > 0 && n < 9.95 ? "%.1f" : "%.0f", n);
        return arena_printf(arena, n < 9.95 ? "%.1f%c" : "%.0f%c", n, units[u]);
}

static const char *short_time(struct arena *arena, uint64_t s)
{
        if (s < 100)
                return arena_printf(arena, "%us", (unsigned)s);
        if (s < 100 * 60)
                return arena_printf(arena, "%um", (unsigned)(s / 60));
        return s < 100 * 3600 ? arena_printf(arena, "%uh", (unsigned)(s / 3600)) : arena_printf(arena, "%llud", (unsigned long long)(s / 86400));
}

static const char *rate(struct top *t, enum counter c)
{
        return t->since_s > 0 ? short_number(&t->arena, t->rates[c]) : "-";
}

static void add_head(struct top *t, struct str *out)
{
        const json_t *d = t->daemon;

        str_printf(out, "cyrd %s, up %s, %llu session%s (%llu parked), %llu of %llu workers busy, queue %llu, cpu %.0f%%, memory %s\n",
                   text(d, "version"), short_time(&t->arena, number(d, "uptime_s")), (unsigned long long)number(d, "sessions"), number(d, "sessions") == 1 ? "" : "s",
                   (unsigned long long)number(d, "parked"), (unsigned long long)number(d, "workers_busy"), (unsigned long long)number(d, "workers"),
                   (unsigned long long)number(d, "run_queue"), t->cpu_percent, short_number(&t->arena, (double)number(d, "rss")));
        str_printf(out, "a second: connections %s (refused %s), logins %s (failed %s), delivered %s, added %s, expunged %s,\n",
                   rate(t, ACCEPTED), rate(t, REFUSED), rate(t, LOGINS), rate(t, FAILURES), rate(t, DELIVERED), rate(t, ADDED), rate(t, EXPUNGED));
        str_printf(out, "          commits %s, syncs %s, octets in %s, out %s\n\n", rate(t, COMMITS), rate(t, SYNCS), rate(t, BYTES_IN), rate(t, BYTES_OUT));
}

/* Through the table that everything else is shown in; its lines are then cut to the width. */
static void add_table(struct top *t, const struct line *v, size_t n, struct str *out)
{
        struct ctl_table *table = ctl_table_create(t->users ? "user=User n=Sessions in=In/s out=Out/s idle=Idle age=Age total_in=In total_out=Out"
                                                            : "user=User service=Service peer=Peer in=In/s out=Out/s idle=Idle age=Age "
                                                              "command=Command mailbox=Mailbox session=Session");
        char *buf = NULL;
        size_t size = 0;
        FILE *f = open_memstream(&buf, &size);

        must(f != NULL);
        for (size_t i = 0; i < n; i++) {
                const struct line *l = &v[i];
                const char *in = short_number(&t->arena, l->rate_in), *out_rate = short_number(&t->arena, l->rate_out);
                const char *idle = short_time(&t->arena, l->idle_s), *age = short_time(&t->arena, l->age_s);
                json_t *row;

                if (t->users)
                        row = json_pack("{s:s, s:I, s:s, s:s, s:s, s:s, s:s, s:s}", "user", *l->user ? l->user : "-", "n", (json_int_t)l->sessions, "in", in,
                                        "out", out_rate, "idle", idle, "age", age, "total_in", short_number(&t->arena, (double)l->in), "total_out",
                                        short_number(&t->arena, (double)l->out));
                else
                        row = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "user", *l->user ? l->user : "-", "service", l->service,
                                        "peer", l->peer, "in", in, "out", out_rate, "idle", idle, "age", age, "command", l->command, "mailbox",
                                        l->mailbox, "session", l->session);
                ctl_table_add(table, row);
                json_decref(row);
        }
        ctl_table_print_wide(table, f);
        fclose(f);
        str_append_str(out, buf);
        free(buf);
        ctl_table_destroy(&table);
}

/* Cut each line to so many characters. */
static void cut_lines(struct str *text, unsigned columns)
{
        struct str cut = STR_INIT;

        for (const char *p = text->data; *p;) {
                unsigned n = 0;

                while (*p && *p != '\n') {
                        if (((unsigned char)*p & 0xc0) != 0x80)
                                n++;
                        if (n <= columns)
                                str_append_c(&cut, *p);
                        p++;
                }
                if (*p)
                        str_append_c(&cut, *p++);
        }
        str_clear(text);
        str_append_span(text, str_span(&cut));
        str_deinit(&cut);
}

static void show_text(struct top *t)
{
        unsigned rows = 0, columns = COLUMNS_PLAIN;
        struct str out = STR_INIT;
        size_t n;
        const struct line *v = lines(t, &n);
        uint64_t max = t->lines ? t->lines : LINES_DEFAULT;

        if (t->live) {
                term_size(&rows, &columns);
                max = rows > 7 ? rows - 7 : 1;          /* 4 above, the headings, 2 below */
                if (t->lines && t->lines < max)
                        max = t->lines;
        }
        add_head(t, &out);
        add_table(t, v, n < max ? n : max, &out);
        if (n > max)
                str_printf(&out, "and %zu more\n", n - max);
        if (t->live)
                str_printf(&out, "q quits, u %s, s sorts (by %s)\n", t->users ? "sessions" : "users", order_names[t->order]);
        cut_lines(&out, columns);
        if (t->live)
                term_show(out.data);
        else
                fputs(out.data, stdout);
        fflush(stdout);
        str_deinit(&out);
}

static void row_json(struct top *t, json_t *row)
{
        t->outer->row(t->outer->ctx, row);
        json_decref(row);
}

static void show_json(struct top *t, unsigned picture)
{
        json_t *rates = json_object(), *row = json_deep_copy(t->daemon);
        size_t n;
        const struct line *v = lines(t, &n);

        for (int c = 0; c < COUNTERS; c++)
                json_object_set_new(rates, counter_names[c], json_real(floor(t->rates[c] * 100) / 100));
        json_object_set_new(row, "picture", json_integer(picture));
        json_object_set_new(row, "time", json_integer((json_int_t)clock_wall_s()));
        json_object_set_new(row, "interval_s", json_real(t->since_s));
        json_object_set_new(row, "cpu_percent", json_real(t->cpu_percent));
        json_object_set_new(row, "rates", rates);
        row_json(t, row);
        for (size_t i = 0; i < n && (!t->lines || i < t->lines); i++) {
                const struct line *l = &v[i];

                row = json_pack("{s:s, s:i, s:s, s:f, s:f, s:I, s:I, s:I, s:I}", "kind", t->users ? "user" : "session", "picture", (int)picture,
                                "user", l->user, "in_rate", l->rate_in, "out_rate", l->rate_out, "bytes_in", (json_int_t)l->in, "bytes_out",
                                (json_int_t)l->out, "idle_s", (json_int_t)l->idle_s, "age_s", (json_int_t)l->age_s);
                if (t->users) {
                        json_object_set_new(row, "sessions", json_integer((json_int_t)l->sessions));
                } else {
                        json_object_set_new(row, "session", json_string(l->session));
                        json_object_set_new(row, "service", json_string(l->service));
                        json_object_set_new(row, "peer", json_string(l->peer));
                        json_object_set_new(row, "command", json_string(l->command));
                        json_object_set_new(row, "mailbox", json_string(l->mailbox));
                }
                row_json(t, row);
        }
        fflush(stdout);
}

/* ---- on a terminal, and without -------------------------------------------------------------------------------------------------- */

/* Returns false when it is over. */
static bool wait_with_keys(struct top *t)
{
        uint64_t until = clock_mono_ms() + t->interval_ms;

        for (;;) {
                uint64_t now = clock_mono_ms();
                int key = now < until ? term_key((int)(until - now)) : 0;

                if (key < 0 || key == 'q' || key == 'Q')
                        return false;
                if (key == 'u')
                        t->users = !t->users;
                if (key == 's')
                        t->order = (t->order + 1) % ORDERS;
                if (key == ' ' || now >= until)
                        return true;
                show_text(t);                           /* the same numbers in another form, or another window */
                arena_reset(&t->arena);
        }
}

static int show_live(struct top *t, struct err *err)
{
        int rc = 0;

        term_take();
        for (uint64_t n = 0; rc == 0; n++) {
                rc = look(t, err);
                if (rc == 0)
                        show_text(t);
                arena_reset(&t->arena);
                if (rc < 0 || (t->count && n >= t->count) || !wait_with_keys(t))
                        break;
        }
        term_give_back();
        return rc;
}

/* The first look shows nothing: there are no rates yet. */
static int show_plain(struct top *t, struct err *err)
{
        if (look(t, err) < 0)
                return -1;
        for (uint64_t n = 0; t->count == 0 || n < t->count; n++) {
                poll(NULL, 0, (int)t->interval_ms);
                if (look(t, err) < 0)
                        return -1;
                if (t->outer->json) {
                        show_json(t, (unsigned)n + 1);
                } else {
                        if (n)
                                putchar('\n');
                        show_text(t);
                }
                arena_reset(&t->arena);
                if (ferror(stdout))
                        return err_set(err, ERR_CLOSED, "nobody reads any more");
        }
        return 0;
}

/* ---- arguments ------------------------------------------------------------------------------------------------------------------ */

static int arg_number(json_t *args, const char *key, uint64_t max, uint64_t *n_r, struct err *err)
{
        const char *s = json_string_value(json_object_get(args, key));

        if (s && !span_u64(span_of(s), max, n_r))
                return err_set(err, ERR_SYNTAX, "%s: a number from 0 to %llu is wanted", key, (unsigned long long)max);
        return 0;
}

static int take_args(struct top *t, json_t *args, struct err *err)
{
        const char *interval = json_string_value(json_object_get(args, "interval")), *sort = json_string_value(json_object_get(args, "sort"));
        char *end;

        t->users = json_is_true(json_object_get(args, "users"));
        t->count = t->live ? 0 : 1;
        if (arg_number(args, "count", 1000000000, &t->count, err) < 0 || arg_number(args, "lines", 1000000, &t->lines, err) < 0)
                return -1;
        if (interval) {
                double s = strtod(interval, &end);

                if (end == interval || *end || !(s >= 0.1 && s <= 3600))
                        return err_set(err, ERR_SYNTAX, "interval: seconds from 0.1 to 3600 are wanted");
                t->interval_ms = (uint64_t)(s * 1000);
        }
        if (sort) {
                for (t->order = 0; t->order < ORDERS && strcmp(sort, order_names[t->order]) != 0; t->order++)
                        ;
                if (t->order == ORDERS)
                        return err_set(err, ERR_SYNTAX, "sort: rate, in, out, idle, age or user is wanted");
        }
        return 0;
}

int top_run(struct ctl_client *client, json_t *args, struct err *err)
{
        struct top t = { .outer = client, .client = *client, .interval_ms = INTERVAL_DEFAULT_MS, .sessions = table_create(),
                         .live = !client->json && term_possible() };
        struct span name;
        void *value;
        size_t pos = 0;
        int rc;

        t.client.row = take_row;
        t.client.progress = NULL;
        t.client.waiting = NULL;
        t.client.ctx = &t;
        arena_init(&t.arena);
        rc = take_args(&t, args, err);
        if (rc == 0)
                rc = ctl_client_connect(&t.client, err);
        if (rc == 0)
                rc = t.live ? show_live(&t, err) : show_plain(&t, err);
        ctl_client_close(&t.client);
        while (table_next(t.sessions, &pos, &name, &value))
                forget(&t, name, value);
        table_destroy(&t.sessions);
        json_decref(t.daemon);
        json_decref(args);
        arena_deinit(&t.arena);
        return rc;
}
