/* Ropes: what goes in comes out, in order, however it is taken. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#include "server/rope.h"

static struct file *make_file(size_t n)
{
        char path[] = "/tmp/rope_test.XXXXXX";
        int fd = mkstemp(path);

        unlink(path);
        for (size_t i = 0; i < n; i++) {
                char c = (char)('a' + i % 26);

                cr_assert_eq(write(fd, &c, 1), 1);
        }
        return file_from_fd(fd, NULL);
}

/* Take everything out, at most `step` octets at a time. */
static void drain(struct rope *r, struct str *out, size_t step)
{
        struct rope_head head;

        while (rope_peek(r, &head)) {
                size_t n = head.p ? head.len : (size_t)head.extent.len;

                if (n > step)
                        n = step;
                if (head.p)
                        str_append(out, head.p, n);
                else
                        cr_assert_eq(file_read(head.extent.file, str_append_space(out, n), n, head.extent.offset, NULL), 0);
                rope_sent(r, n);
        }
}

Test(rope, pieces_come_out_in_order_at_any_step)
{
        static const size_t steps[] = { 1, 3, 100, 4096, 1000000 };

        for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
                struct rope r = ROPE_INIT;
                struct str want = STR_INIT, got = STR_INIT;
                struct file *f = make_file(1000);

                for (int k = 0; k < 300; k++) {
                        rope_printf(&r, "line %d\r\n", k);
                        str_printf(&want, "line %d\r\n", k);
                        if (k % 50 == 7) {
                                struct extent x = { file_ref(f), (uint64_t)k, 500 };

                                rope_append_extent(&r, &x);
                                cr_expect_null(x.file);
                                for (int j = 0; j < 500; j++)
                                        str_append_c(&want, (char)('a' + (k + j) % 26));
                        }
                }
                cr_expect_eq(r.bytes, want.len);
                drain(&r, &got, steps[i]);
                cr_expect(span_eq(str_span(&want), str_span(&got)), "step %zu", steps[i]);
                cr_expect(rope_empty(&r));
                cr_expect_null(r.first);
                cr_expect_eq(r.memory, 0);
                file_unref(&f);
                str_deinit(&want);
                str_deinit(&got);
        }
}

Test(rope, long_texts_are_printed_whole)
{
        struct rope r = ROPE_INIT;
        struct str got = STR_INIT;
        char *text = malloc(5001);

        memset(text, 'q', 5000);
        text[5000] = '\0';
        rope_printf(&r, "<%s>", text);
        drain(&r, &got, 777);
        cr_expect_eq(got.len, 5002);
        cr_expect_eq(got.data[5001], '>');
        free(text);
        str_deinit(&got);
}

Test(rope, join_moves_everything)
{
        struct rope a = ROPE_INIT, b = ROPE_INIT;
        struct str got = STR_INIT;

        rope_append_str(&a, "one ");
        rope_append_str(&b, "two");
        rope_join(&a, &b);
        cr_expect(rope_empty(&b));
        rope_append_str(&b, "again");                   /* b is usable */
        rope_join(&a, &b);
        rope_join(&a, &b);
        rope_append_str(&a, "!");
        cr_expect_eq(a.bytes, 13);
        drain(&a, &got, 100);
        cr_expect_str_eq(got.data, "one twoagain!");
        str_deinit(&got);
}

Test(rope, empty_extents_vanish_and_iov_stops_at_a_file)
{
        struct rope r = ROPE_INIT;
        struct file *f = make_file(10);
        struct extent none = { file_ref(f), 3, 0 }, x = { file_ref(f), 0, 10 };
        struct iovec iov[4];

        rope_append_extent(&r, &none);
        cr_expect(rope_empty(&r));
        cr_expect_null(none.file);
        rope_append_str(&r, "head");
        rope_append_extent(&r, &x);
        rope_append_str(&r, "tail");
        cr_expect_eq(rope_peek_iov(&r, iov, 4), 1);
        cr_expect_eq(iov[0].iov_len, 4);
        rope_sent(&r, 4);
        cr_expect_eq(rope_peek_iov(&r, iov, 4), 0);
        rope_sent(&r, 12);
        cr_expect_eq(r.bytes, 2);
        rope_deinit(&r);                                /* with something left */
        file_unref(&f);
}
