/* mailname_private - the inside of struct namespace, for mailname.c and namespace.c. */
#ifndef STORE_MAILNAME_PRIVATE_H
#define STORE_MAILNAME_PRIVATE_H

#include <stdatomic.h>

#include "store/mailname.h"

struct namespace {
        atomic_uint refs;
        bool alt;                               /* altnamespace */
        bool unixsep;                           /* unixhierarchysep: '/' separates, '.' is an ordinary character */
        bool virtdomains;                       /* user@domain is domain!user.… */
        bool no_users, no_shared;               /* disable_user_namespace, disable_shared_namespace */
        char sep;
        char *userprefix, *sharedprefix, *altprefix;    /* modified UTF-7, without a separator at the end */
        char *defaultdomain;                    /* NULL: none */
};

/* user@domain names a domain: the answer of the namespace made last. */
bool mailname_virtdomains(void);
/* Is this span in [A-Za-z0-9.-], not empty, without an empty label? */
bool mailname_domain_ok(struct span domain);

#endif
