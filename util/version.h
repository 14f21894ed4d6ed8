/* version - what this release calls itself, here and nowhere else. */
#ifndef UTIL_VERSION_H
#define UTIL_VERSION_H

#define CYRD_VERSION "0.1"
#define CYRD_CYRUS_VERSION "3.6.1-cyrd"         /* what programs made for Cyrus look at */

#endif
