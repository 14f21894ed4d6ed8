/* objectid - see objectid.h */
#include "server/imap/objectid.h"

#include <inttypes.h>
#include <stdio.h>

#include "util/hash.h"

#define EMAILID_OCTETS 12

void objectid_email(const struct msg *m, char out[OBJECTID_SIZE])
{
        out[0] = 'M';
        hex_encode(out + 1, m->guid, EMAILID_OCTETS);
}

void objectid_thread(const struct msg *m, char out[OBJECTID_SIZE])
{
        out[0] = '\0';
        if (m->thrid)
                snprintf(out, OBJECTID_SIZE, "T%016" PRIx64, m->thrid);
}
