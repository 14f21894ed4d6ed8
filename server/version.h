/* version - what we call ourselves. CYRUS_COMPAT is what scripts made for Cyrus gate on. */
#ifndef SERVER_VERSION_H
#define SERVER_VERSION_H

#define CYRD_VERSION    "0.1"
#define CYRUS_COMPAT    "3.6.1"

#endif
