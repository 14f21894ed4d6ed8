/*
 * thread - the threading algorithms of RFC 5256 3 (ORDEREDSUBJECT, REFERENCES) and of draft-ietf-morg-inthread 4 (REFS), on what is known of
 * the messages; no input, no output. Works in slices: tens of thousands of messages take some milliseconds in each step.
 */
#ifndef STORE_THREAD_H
#define STORE_THREAD_H

#include <stdbool.h>
#include <stdint.h>

#include "store/sort_facts.h"

/*
 *   ORDEREDSUBJECT  same base subject: one thread, in order of the sent date
 *   REFERENCES      by the References and In-Reply-To fields, then threads of one subject are merged; threads in order of the sent date of
 *                   their first message
 *   REFS            by the fields alone; threads in order of the latest internal date in each, messages within one by sent date
 */
enum thread_algorithm { THREAD_ORDEREDSUBJECT, THREAD_REFERENCES, THREAD_REFS };

struct thread_message {
        uint32_t number;                        /* what is shown: sequence number or UID */
        int64_t sent;                           /* sent date, or the internal date when it has none (RFC 5256 2.2) */
        int64_t internaldate;
        const struct sort_facts *facts;
};

struct thread_job;
/* `messages`, in mailbox order, stay the caller's and in place. */
struct thread_job *thread_create(enum thread_algorithm algorithm, const struct thread_message *messages, uint32_t n);
void thread_destroy(struct thread_job **job);
/* Handle about `budget` messages. True: the threads are ready. */
bool thread_run(struct thread_job *job, uint32_t budget);
/* After that: append about `octets` of the threads, "(1)(2 3)…". True: that was the last of it. */
bool thread_print(struct thread_job *job, struct str *out, size_t octets);

#endif
