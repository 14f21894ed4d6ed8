/*
 * base_subject - the base subject of RFC 5256 2.1: what is left of a subject without "Re:", "Fwd:", "[list]", "(fwd)" and the like.
 * SORT and THREAD of all servers and clients have to agree on it, so it is that procedure to the letter.
 */
#ifndef STORE_BASE_SUBJECT_H
#define STORE_BASE_SUBJECT_H

#include <stdbool.h>

#include "util/str.h"

/*
 * `subject` is UTF-8 with its encoded words decoded. The result replaces `out`. Returns whether the message is a reply or forward:
 * a subj-refwd, a "(fwd)" trailer or "[fwd: …]" was removed (RFC 5256 3, REFERENCES). Linear in the subject.
 */
bool base_subject(struct span subject, struct str *out);

#endif
