/* acknowledge - see acknowledge.h */
#include "server/acknowledge.h"

#include <stddef.h>

atomic_bool acknowledge_wanted;
static const struct acknowledge_ops *installed;

void acknowledge_install(const struct acknowledge_ops *ops)
{
        installed = ops;
}

void acknowledge_want(bool wanted)
{
        atomic_store(&acknowledge_wanted, wanted && installed);
}

struct acknowledge *acknowledge_begin(struct session_id session, const struct acknowledge_about *about)
{
        return acknowledge_on() ? installed->begin(session, about) : NULL;
}

enum acknowledge_answer acknowledge_answer(struct acknowledge *a)
{
        return installed->answer(a);
}

void acknowledge_end(struct acknowledge **a)
{
        if (*a)
                installed->end(*a);
        *a = NULL;
}
