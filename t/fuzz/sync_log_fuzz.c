/*
 * sync_log - a log for replicas with anything in it: every line is taken or reported, what is taken is written and read as the same; the order of work
 * holds none of it twice, and gives all of it.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "replication/rolling_private.h"
#include "util/must.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_line(void *ctx, const struct sync_line *line)
{
        struct arena arena = ARENA_INIT;
        struct str text = STR_INIT;
        struct sync_line again;

        must(sync_line_write(&text, line) || strpbrk(line->a, "\r\n") || strpbrk(line->b, "\r\n"));
        if (text.len) {
                must(sync_line_parse((struct span){ text.data, text.len - 1 }, &arena, &again, NULL) == 0);
                must(again.kind == line->kind && strcmp(again.a, line->a) == 0 && strcmp(again.b, line->b) == 0);
        }
        work_add_line(ctx, line);
        str_deinit(&text);
        arena_deinit(&arena);
}

static void on_bad(void *ctx, struct span text)
{
        struct work *w = ctx;

        must(text.len > 0);
        w->bad++;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static int fd = -1;
        struct work w;
        struct item *it;
        uint64_t items = 0;

        if (fd < 0)
                must((fd = memfd_create("log", 0)) >= 0);
        must(ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size);
        work_init(&w, "DELETED");
        must(sync_log_read(fd, on_line, on_bad, &w, NULL) == 0);
        work_reduce(&w);
        while ((it = work_next(&w)) != NULL) {
                must(it->kind != SYNC_MAILBOX || it->names.n > 0);
                items++;
                item_free(it);
        }
        must(work_is_empty(&w) && items <= 2 * w.lines);
        work_deinit(&w);
        return 0;
}
