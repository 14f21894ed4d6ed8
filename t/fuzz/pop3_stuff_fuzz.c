/*
 * pop3_stuff - a message as a multi-line response: with the dots taken out again it is the message, or its first lines; no line of it but the
 * last is a single dot. The first two octets choose the header's size and the lines of TOP.
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "server/pop3/stuff.h"
#include "util/must.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* All of a rope as octets. */
static void drain(struct rope *r, struct str *out)
{
        struct rope_head head;

        while (rope_peek(r, &head)) {
                struct err err = ERR_INIT;
                size_t n = head.p ? head.len : head.extent.len;

                if (head.p)
                        str_append(out, head.p, n);
                else
                        must(file_read(head.extent.file, str_append_space(out, n), n, head.extent.offset, &err) == 0);
                rope_sent(r, n);
        }
}

/* What a client makes of it: dots undone, up to the line that is one. */
static void undo(struct span s, struct str *out)
{
        size_t at = 0;

        for (;;) {
                const char *end = memmem(s.p + at, s.len - at, "\r\n", 2);
                struct span line;

                must(end);
                line = (struct span){ s.p + at, (size_t)(end - s.p) - at };
                at = (size_t)(end - s.p) + 2;
                if (span_eq_str(line, "."))
                        break;
                if (line.len && line.p[0] == '.')
                        line = (struct span){ line.p + 1, line.len - 1 };
                str_append_span(out, line);
                str_append(out, "\r\n", 2);
        }
        must(at == s.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct pop3_stuff st;
        struct rope rope = ROPE_INIT;
        struct str wire = STR_INIT, text = STR_INIT, message = STR_INIT;
        struct err err = ERR_INIT;
        uint64_t lines, header;
        unsigned repeat;
        int fd, rc;

        if (size < 4)
                return 0;
        repeat = data[2] % 32 == 0 ? 100 : 1;                   /* long ones are cut into pieces */
        header = data[0];
        lines = data[1] == 255 ? UINT64_MAX : data[1];
        data += 4, size -= 4;
        for (unsigned i = 0; i < repeat; i++)
                str_append(&message, data, size);
        if (header > message.len)
                header = message.len;
        fd = memfd_create("message", 0);
        must(fd >= 0 && write(fd, message.data, message.len) == (ssize_t)message.len);
        pop3_stuff_begin(&st, &(struct extent){ file_from_fd(fd, NULL), 0, message.len }, header, lines);
        while ((rc = pop3_stuff_next(&st, &rope, &err)) == 0)
                drain(&rope, &wire);
        must(rc == 1);
        drain(&rope, &wire);
        pop3_stuff_end(&st);
        undo(str_span(&wire), &text);
        if (lines == UINT64_MAX) {
                must(text.len >= message.len && memcmp(text.data, message.data, message.len) == 0);
                must(text.len == message.len || (text.len == message.len + 2 && memcmp(text.data + message.len, "\r\n", 2) == 0));
        } else {
                size_t n = text.len < message.len ? text.len : message.len;
                uint64_t lfs = 0;

                must(text.len >= header && text.len <= message.len + 2);
                if (n >= 2 && memcmp(text.data, message.data, n) != 0)
                        must(memcmp(text.data, message.data, n - 2) == 0);      /* the end that was added */
                for (size_t i = header; i + 2 < text.len; i++)
                        lfs += text.data[i] == '\n';
                must(lfs <= lines + 1);
        }
        str_deinit(&wire);
        str_deinit(&text);
        str_deinit(&message);
        rope_deinit(&rope);
        return 0;
}
