/*
 * Race program: what charset shares between threads (tables made once, each thread's iconv descriptors) while threads decode in many
 * charsets, end, and hand streams to each other in mid-text. TAP; for `make race SAN=thread`.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "util/charset.h"
#include "util/lock.h"
#include "util/must.h"

#define THREADS 4
#define ROUNDS 300

static const struct { const char *charset, *octets, *want; } texts[] = {
        { "koi8-r", "\xd0\xd2\xc9\xd7\xc5\xd4", "ПРИВЕТ" },
        { "iso-8859-1", "stra\xdf" "e", "STRAßE" },
        { "iso-2022-jp", "\x1b$BF|K\\8l\x1b(B", "日本語" },
        { "gb2312", "\xc4\xe3\xba\xc3", "你好" },
        { "shift_jis", "\x93\xfa\x96\x7b", "日本" },
        { "big5", "\xa4\xa4\xa4\xe5", "中文" },
        { "euc-kr", "\xb0\xa1", "\xe1\x84\x80\xe1\x85\xa1" },
        { "windows-1251", "\xef\xf0\xe8", "ПРИ" },
        { "utf-8", "caf\xc3\xa9", "CAFE\xcc\x81" },
        { "utf-7", "+AOk-t", "E\xcc\x81T" },
};
#define TEXTS (sizeof texts / sizeof texts[0])

/* A stream half fed, waiting for whoever comes next. */
static struct mutex shelf_lock = MUTEX_INIT;
static struct text_stream *shelf[TEXTS];
static struct str shelf_out[TEXTS];

static void relay(size_t i)
{
        struct span all = span_of(texts[i].octets), half = { all.p, all.len / 2 };
        struct text_stream *t;
        struct str out = STR_INIT;

        mutex_lock(&shelf_lock);
        t = shelf[i];
        out = shelf_out[i];
        shelf[i] = NULL;
        str_init(&shelf_out[i]);
        mutex_unlock(&shelf_lock);
        if (t) {
                text_stream_feed(t, (struct span){ all.p + half.len, all.len - half.len }, &out);
                text_stream_finish(t, &out);
                text_stream_destroy(&t);
                must(span_eq_str(str_span(&out), texts[i].want));
                str_deinit(&out);
                return;
        }
        t = text_stream_create(TRANSFER_8BIT, span_of(texts[i].charset), true);
        text_stream_feed(t, half, &out);
        mutex_lock(&shelf_lock);
        if (!shelf[i]) {
                shelf[i] = t;
                shelf_out[i] = out;
                t = NULL;
                str_init(&out);
        }
        mutex_unlock(&shelf_lock);
        text_stream_destroy(&t);
        str_deinit(&out);
}

static void *work(void *arg)
{
        size_t first = (size_t)(uintptr_t)arg;

        for (size_t round = 0; round < ROUNDS; round++) {
                for (size_t k = 0; k < TEXTS; k++) {
                        size_t i = (first + k) % TEXTS;
                        struct str utf8 = STR_INIT, canonical = STR_INIT;

                        must(charset_known(span_of(texts[i].charset)));
                        charset_to_utf8(span_of(texts[i].charset), span_of(texts[i].octets), &utf8);
                        casemap_span(str_span(&utf8), &canonical);
                        must(span_eq_str(str_span(&canonical), texts[i].want));
                        str_deinit(&utf8);
                        str_deinit(&canonical);
                        relay(i);
                }
        }
        return NULL;
}

int main(void)
{
        pthread_t threads[THREADS];

        for (int generation = 0; generation < 3; generation++) {        /* threads end, and with them their descriptors */
                for (size_t i = 0; i < THREADS; i++)
                        must(thread_start(&threads[i], "charset", 0, work, (void *)(uintptr_t)i) == 0);
                for (size_t i = 0; i < THREADS; i++)
                        pthread_join(threads[i], NULL);
        }
        for (size_t i = 0; i < TEXTS; i++) {
                text_stream_destroy(&shelf[i]);
                str_deinit(&shelf_out[i]);
        }
        printf("ok 1 - charsets decoded by %d threads at once\n1..1\n", THREADS);
        return 0;
}
