/* mime_date - the Date: field, read generously (RFC 5322 3.3, 4.3); see mime.h */
#include "store/mime_private.h"

#include "util/clock.h"

struct date_fields {
        int64_t year;
        unsigned month, day, hour, minute, second;
        int32_t zone_s;
};

static const char months[12][4] = { "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec" };
static const char days[7][4] = { "mon", "tue", "wed", "thu", "fri", "sat", "sun" };

static char at(struct span s, size_t pos)
{
        return pos < s.len ? s.p[pos] : '\0';
}

static struct span word(struct span s, size_t *pos)
{
        size_t start = *pos;

        while (ascii_isalpha(at(s, *pos)))
                ++*pos;
        return (struct span){ s.p + start, *pos - start };
}

/* A number of 1 to `digits_max` digits. Returns how many there were, 0 for none or too many. */
static unsigned number(struct span s, size_t *pos, unsigned digits_max, unsigned *value_r)
{
        unsigned n = 0, value = 0;

        while (ascii_isdigit(at(s, *pos + n)) && n <= digits_max)
                value = value * 10 + (unsigned)(s.p[*pos + n++] - '0');
        if (n > digits_max)
                return 0;
        *pos += n;
        *value_r = value;
        return n;
}

static unsigned month_of(struct span w)
{
        for (unsigned i = 0; i < 12; i++)
                if (span_istarts(w, months[i]))
                        return i + 1;
        return 0;
}

static bool is_day_name(struct span w)
{
        for (unsigned i = 0; i < 7; i++)
                if (span_istarts(w, days[i]))
                        return true;
        return false;
}

static void skip(struct span s, size_t *pos, const char *also)
{
        for (;;) {
                if (mime_skip_cfws(s, pos, NULL))
                        continue;
                if (!at(s, *pos) || !strchr(also, at(s, *pos)))
                        return;
                ++*pos;
        }
}

static bool year(struct span s, size_t *pos, struct date_fields *d)
{
        unsigned value, digits = number(s, pos, 4, &value);

        if (digits < 2)
                return false;
        d->year = value;
        if (digits == 2)                                        /* RFC 5322 4.3 */
                d->year += value < 50 ? 2000 : 1900;
        else if (digits == 3)
                d->year += 1900;
        return true;
}

/* h:mm[:ss[.fraction]]; a dot instead of a colon is met, too. */
static bool time_of_day(struct span s, size_t *pos, struct date_fields *d)
{
        if (!number(s, pos, 2, &d->hour))
                return false;
        skip(s, pos, "");
        if (at(s, *pos) != ':' && at(s, *pos) != '.')
                return false;
        ++*pos;
        skip(s, pos, "");
        if (!number(s, pos, 2, &d->minute))
                return false;
        skip(s, pos, "");
        if (at(s, *pos) == ':' || at(s, *pos) == '.') {
                ++*pos;
                skip(s, pos, "");
                if (!number(s, pos, 2, &d->second))
                        return false;
        }
        if (at(s, *pos) == '.' || at(s, *pos) == ',')
                for (++*pos; ascii_isdigit(at(s, *pos)); ++*pos)
                        ;
        return true;
}

static void numeric_zone(struct span s, size_t *pos, struct date_fields *d)
{
        int sign = at(s, *pos) == '-' ? -1 : 1;
        size_t start = ++*pos;
        unsigned value, digits = number(s, pos, 4, &value), minutes = 0;

        if (digits == 0)
                return;
        if (digits <= 2) {
                if (at(s, *pos) == ':') {
                        ++*pos;
                        if (!number(s, pos, 2, &minutes))
                                *pos = start;
                }
        } else {
                minutes = value % 100;
                value /= 100;
        }
        if (value <= 24 && minutes < 60)
                d->zone_s = sign * (int32_t)(value * 3600 + minutes * 60);
}

/* Names other than these, military letters among them, say nothing that can be relied on: RFC 5322 4.3. */
static void zone(struct span s, size_t *pos, struct date_fields *d)
{
        static const struct { const char *name; int hours; } names[] = {
                { "EST", -5 }, { "EDT", -4 }, { "CST", -6 }, { "CDT", -5 }, { "MST", -7 }, { "MDT", -6 }, { "PST", -8 }, { "PDT", -7 },
        };
        struct span w;

        skip(s, pos, "");
        w = word(s, pos);
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
                if (span_ieq_str(w, names[i].name))
                        d->zone_s = names[i].hours * 3600;
        if (at(s, *pos) == '+' || at(s, *pos) == '-')                   /* also "GMT+0200" */
                numeric_zone(s, pos, d);
}

/* 2026-11-22T03:35:22Z, after the year. */
static bool iso8601(struct span s, size_t *pos, struct date_fields *d)
{
        ++*pos;
        if (!number(s, pos, 2, &d->month) || at(s, *pos) != '-')
                return false;
        ++*pos;
        if (!number(s, pos, 2, &d->day))
                return false;
        skip(s, pos, "Tt");
        if (*pos >= s.len)
                return true;
        if (!time_of_day(s, pos, d))
                return false;
        zone(s, pos, d);
        return true;
}

/* Thu Nov 26 01:22:15 [PST] 1992, after the month. */
static bool asctime_order(struct span s, size_t *pos, struct date_fields *d)
{
        skip(s, pos, "");
        if (!number(s, pos, 2, &d->day))
                return false;
        skip(s, pos, ",");
        if (ascii_isdigit(at(s, *pos)) && ascii_isdigit(at(s, *pos + 1)) && ascii_isdigit(at(s, *pos + 2))) {   /* Nov 26, 1992 [time] */
                if (!year(s, pos, d))
                        return false;
                skip(s, pos, ",");
                if (*pos < s.len && !time_of_day(s, pos, d))
                        return false;
                zone(s, pos, d);
                return true;
        }
        if (!time_of_day(s, pos, d))
                return false;
        zone(s, pos, d);
        skip(s, pos, "");
        if (!year(s, pos, d))
                return false;
        zone(s, pos, d);
        return true;
}

static bool parse(struct span s, struct date_fields *d)
{
        size_t pos = 0;
        struct span w;
        unsigned digits, value;

        skip(s, &pos, ",");
        w = word(s, &pos);
        if (w.len && is_day_name(w) && month_of(w) == 0) {
                skip(s, &pos, ",.");
                w = word(s, &pos);
        }
        if (w.len) {
                d->month = month_of(w);
                return d->month && asctime_order(s, &pos, d);
        }
        digits = number(s, &pos, 4, &value);
        if (digits == 4 && at(s, pos) == '-') {
                d->year = value;
                return iso8601(s, &pos, d);
        }
        if (digits == 0 || digits > 2)
                return false;
        d->day = value;
        skip(s, &pos, "-,.");
        d->month = month_of(word(s, &pos));
        if (!d->month)
                return false;
        skip(s, &pos, "-,.");
        if (!year(s, &pos, d))
                return false;
        skip(s, &pos, ",");
        if (pos >= s.len)
                return true;
        if (!time_of_day(s, &pos, d))
                return false;
        zone(s, &pos, d);
        return true;
}

static bool in_range(const struct date_fields *d)
{
        static const unsigned char lengths[12] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
        bool leap = (d->year % 4 == 0 && d->year % 100 != 0) || d->year % 400 == 0;

        if (d->year < 1 || d->month < 1 || d->month > 12 || d->day < 1)
                return false;
        return d->day <= lengths[d->month - 1] + (unsigned)(d->month == 2 && leap) && d->hour < 24 && d->minute < 60 && d->second <= 60;
}

bool mime_date_parse(struct span value, struct mime_date *date_r)
{
        struct date_fields d = { 0 };

        if (!parse(value, &d) || !in_range(&d))
                return false;
        date_r->zone_s = d.zone_s;
        date_r->unix_s = clock_days_from_civil(d.year, d.month, d.day) * 86400 + d.hour * 3600 + d.minute * 60 + d.second - d.zone_s;
        return true;
}
