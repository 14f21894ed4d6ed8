/* progress - see progress.h */
#include "server/ctl/progress.h"

#include <stdio.h>
#include <string.h>

#include "util/clock.h"

#define BAR 30
#define EVERY_MS 100                            /* a terminal may be far away */
#define SILENT_MS 2000                          /* what is over by then needs no line */

void progress_init(struct progress_bar *p, bool on)
{
        *p = (struct progress_bar){ .on = on, .started_ms = clock_mono_ms() };
}

static void format_time(char *buf, size_t size, double s)
{
        unsigned long long n = s > 0 && s < 1e9 ? (unsigned long long)(s + 0.5) : 0;

        if (n >= 3600)
                snprintf(buf, size, "%llu:%02llu:%02llu", n / 3600, n / 60 % 60, n % 60);
        else
                snprintf(buf, size, "%llu:%02llu", n / 60, n % 60);
}

void progress_format(char *buf, size_t size, const struct progress_bar *p, uint64_t now_ms)
{
        double seconds = (double)(now_ms - p->first_ms) / 1000, rate = seconds > 0 ? (double)(p->done - p->first_done) / seconds : 0;
        uint64_t done = p->total && p->done > p->total ? p->total : p->done;
        char bar[BAR + 1], left[32] = "", speed[32];

        if (!p->unit[0]) {
                format_time(left, sizeof left, (double)(now_ms - p->started_ms) / 1000);
                snprintf(buf, size, "%s ...", left);
                return;
        }
        snprintf(speed, sizeof speed, rate > 0 && rate < 10 ? "%.1f" : "%.0f", rate);
        if (!p->total) {
                snprintf(buf, size, "%llu %s, %s/s", (unsigned long long)p->done, p->unit, speed);
                return;
        }
        memset(bar, '.', BAR);
        memset(bar, '#', (size_t)((double)done / (double)p->total * BAR));
        bar[BAR] = '\0';
        if (rate > 0)
                format_time(left, sizeof left, (double)(p->total - done) / rate);
        snprintf(buf, size, "[%s] %llu/%llu %s, %s/s, %s left", bar, (unsigned long long)p->done, (unsigned long long)p->total, p->unit, speed,
                 *left ? left : "?");
}

static void show(struct progress_bar *p, uint64_t now)
{
        char line[200];

        progress_format(line, sizeof line, p, now);
        fprintf(stderr, "\r\033[K%s", line);
        p->stands = true;
        p->shown_ms = now;
}

void progress_report(struct progress_bar *p, uint64_t done, uint64_t total, const char *unit)
{
        uint64_t now;

        if (!p->on)
                return;
        now = clock_mono_ms();
        if (!p->unit[0]) {
                p->first_ms = now;
                p->first_done = done;
        }
        snprintf(p->unit, sizeof p->unit, "%s", unit && *unit ? unit : "done");
        p->done = done;
        p->total = total;
        if (now - p->shown_ms >= EVERY_MS)
                show(p, now);
}

void progress_tick(struct progress_bar *p)
{
        uint64_t now = clock_mono_ms();

        if (p->on && now - p->started_ms >= SILENT_MS)
                show(p, now);
}

void progress_clear(struct progress_bar *p)
{
        if (p->stands)
                fputs("\r\033[K", stderr);
        p->stands = false;
}
