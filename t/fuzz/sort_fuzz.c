/*
 * sort_fuzz - headers of any kind, one after the other (cut at NUL octets) → what SORT and THREAD know of them → threads by every
 * algorithm: nothing is read beyond the end, each message is printed once, parentheses match.
 */
#include <stdint.h>
#include <stdlib.h>

#include "store/sort_facts.h"
#include "store/thread.h"
#include "util/must.h"

#define MESSAGES_MAX 200

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(struct span out, uint32_t n)
{
        bool seen[MESSAGES_MAX + 1] = { false };
        uint32_t number = 0, printed = 0;
        int depth = 0;

        for (size_t i = 0; i <= out.len; i++) {
                char c = i < out.len ? out.p[i] : ' ';

                if (ascii_isdigit(c)) {
                        number = number * 10 + (uint32_t)(c - '0');
                        must(depth > 0);
                        continue;
                }
                if (number) {
                        must(number <= n && !seen[number]);
                        seen[number] = true;
                        printed++;
                }
                number = 0;
                depth += (c == '(') - (c == ')');
                must(depth >= 0);
        }
        must(depth == 0 && printed == n);
}

static void threads(enum thread_algorithm algorithm, const struct thread_message *messages, uint32_t n, unsigned slice)
{
        struct thread_job *j = thread_create(algorithm, messages, n);
        struct str out = STR_INIT;

        while (!thread_run(j, slice))
                ;
        while (!thread_print(j, &out, slice))
                ;
        check(str_span(&out), n);
        str_deinit(&out);
        thread_destroy(&j);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct thread_message messages[MESSAGES_MAX];
        size_t offset[MESSAGES_MAX];
        struct str facts = STR_INIT, scratch = STR_INIT;
        uint32_t n = 0;

        if (size < 1)
                return 0;
        for (size_t at = 1; at < size && n < MESSAGES_MAX; n++) {
                const uint8_t *end = memchr(data + at, 0, size - at);
                size_t len = end ? (size_t)(end - (data + at)) : size - at;
                char *copy = malloc(len ? len : 1);             /* exactly as long */

                must(copy);
                memcpy(copy, data + at, len);
                offset[n] = facts.len;
                sort_facts_append((struct span){ copy, len }, &facts, &scratch);
                free(copy);
                at += len + 1;
        }
        for (uint32_t i = 0; i < n; i++) {
                const struct sort_facts *f = (const void *)(facts.data + offset[i]);

                must(offset[i] + sort_facts_size(f) <= facts.len && f->references <= SORT_REFERENCES_MAX);
                for (unsigned k = 0; k < SORT_TEXTS; k++)
                        must(f->text_len[k] <= SORT_TEXT_MAX);
                messages[i] = (struct thread_message){ i + 1, (int64_t)(f->subject % 9), (int64_t)(f->message_id % 9), f };
        }
        for (unsigned a = THREAD_ORDEREDSUBJECT; a <= THREAD_REFS; a++)
                threads(a, messages, n, 1 + data[0] % 16);
        str_deinit(&facts);
        str_deinit(&scratch);
        return 0;
}
