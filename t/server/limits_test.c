/* Limits: who is counted where, who is turned away, who gives way. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <string.h>

#include "server/limits.h"
#include "t/store/conf_text.h"

static void setup(const char *options)
{
        char text[512];
        struct conf *conf;

        snprintf(text, sizeof text, "configdirectory: /x\npartition-default: /x\n%s", options);
        conf = conf_text(text);
        limits_setup(conf);
        conf_unref(&conf);
}

static struct sockaddr_storage address(const char *text)
{
        struct sockaddr_storage a;

        memset(&a, 0, sizeof a);
        if (strchr(text, ':')) {
                a.ss_family = AF_INET6;
                cr_assert_eq(inet_pton(AF_INET6, text, &((struct sockaddr_in6 *)&a)->sin6_addr), 1);
        } else if (*text) {
                a.ss_family = AF_INET;
                cr_assert_eq(inet_pton(AF_INET, text, &((struct sockaddr_in *)&a)->sin_addr), 1);
        } else {
                a.ss_family = AF_UNIX;
        }
        return a;
}

static struct session_id evicted;

static enum limits_verdict enter(struct limits_place *p, const char *from, const char *service, uint32_t slot, uint64_t now)
{
        struct sockaddr_storage a = address(from);

        return limits_enter(p, &a, service, 0, (struct session_id){ slot, 7 }, now, &evicted);
}

Test(limits, an_address_has_so_many_connections_of_a_service)
{
        struct limits_place p[6];

        setup("maxconnections_per_host: 2\n");
        cr_expect_eq(enter(&p[0], "10.0.0.1", "imap", 0, 0), LIMITS_OK);
        cr_expect_eq(enter(&p[1], "10.0.0.1", "imap", 1, 0), LIMITS_OK);
        cr_expect_eq(enter(&p[2], "10.0.0.1", "imap", 2, 0), LIMITS_HOST);
        cr_expect_eq(enter(&p[2], "::ffff:10.0.0.1", "imap", 2, 0), LIMITS_HOST);
        cr_expect_eq(enter(&p[2], "10.0.0.1", "imaps", 2, 0), LIMITS_OK);
        cr_expect_eq(enter(&p[3], "10.0.0.2", "imap", 3, 0), LIMITS_OK);
        cr_expect_eq(enter(&p[4], "", "imap", 4, 0), LIMITS_OK);
        limits_leave(&p[0]);
        cr_expect_eq(enter(&p[5], "10.0.0.1", "imap", 5, 0), LIMITS_OK);
        for (int i = 1; i < 6; i++)
                limits_leave(&p[i]);
        limits_teardown();
}

Test(limits, ipv6_counts_by_its_64)
{
        struct limits_place p[3];

        setup("maxconnections_per_host: 1\n");
        cr_expect_eq(enter(&p[0], "2001:db8:1:2::1", "imap", 0, 0), LIMITS_OK);
        cr_expect_eq(enter(&p[1], "2001:db8:1:2:ffff::9", "imap", 1, 0), LIMITS_HOST);
        cr_expect_eq(enter(&p[1], "2001:db8:1:3::1", "imap", 1, 0), LIMITS_OK);
        limits_leave(&p[0]);
        limits_leave(&p[1]);
        limits_teardown();
}

Test(limits, the_oldest_stranger_gives_way_unless_he_only_came)
{
        struct limits_place p[5];

        setup("maxunauthenticated: 2\nmaxunauthenticated_per_host: 0\n");
        cr_expect_eq(enter(&p[0], "10.0.0.1", "imap", 10, 1000), LIMITS_OK);
        cr_expect_eq(enter(&p[1], "10.0.0.2", "imap", 11, 1001), LIMITS_OK);
        cr_expect_eq(enter(&p[2], "10.0.0.3", "imap", 12, 1500), LIMITS_STRANGERS);
        cr_expect_eq(enter(&p[2], "10.0.0.3", "imap", 12, 9000), LIMITS_OK);
        cr_expect_eq(evicted.slot, 10);
        limits_authenticated(&p[1]);                    /* no stranger any more: there is room */
        cr_expect_eq(enter(&p[3], "10.0.0.4", "imap", 13, 9001), LIMITS_OK);
        cr_expect_eq(evicted.generation, 0);
        for (int i = 0; i < 4; i++)
                limits_leave(&p[i]);
        limits_teardown();
}

Test(limits, one_address_holds_only_so_many_strangers)
{
        struct limits_place p[3];

        setup("maxunauthenticated_per_host: 1\n");
        cr_expect_eq(enter(&p[0], "10.0.0.1", "imap", 0, 0), LIMITS_OK);
        cr_expect_eq(enter(&p[1], "10.0.0.1", "lmtp", 1, 0), LIMITS_HOST);
        limits_authenticated(&p[0]);
        cr_expect_eq(limits_count_host(&p[0]), 1);
        cr_expect_eq(enter(&p[1], "10.0.0.1", "imap", 1, 0), LIMITS_OK);
        limits_leave(&p[0]);
        cr_expect_eq(limits_count_host(&p[1]), 0);
        limits_leave(&p[1]);
        limits_teardown();
}

Test(limits, a_login_is_looked_at_and_counted_in_one_step)
{
        struct limits_place p[3];

        setup("");
        enter(&p[0], "10.0.0.1", "imap", 0, 0);
        enter(&p[1], "10.0.0.2", "imap", 1, 0);
        enter(&p[2], "10.0.0.1", "imap", 2, 0);
        cr_expect(limits_login(&p[0], "ann", 1, 0));
        cr_expect_eq(limits_count_user("ann"), 1);
        cr_expect_not(limits_login(&p[1], "ann", 1, 0));
        cr_expect_eq(limits_count_user("ann"), 1);
        cr_expect(limits_login(&p[0], "ann", 1, 1), "whoever has a place keeps it");
        cr_expect_not(limits_login(&p[2], "bob", 1, 1), "one of this address");
        cr_expect_eq(limits_count_user("bob"), 0);
        limits_leave(&p[0]);
        cr_expect(limits_login(&p[1], "ann", 1, 1));
        cr_expect(limits_login(&p[2], "bob", 1, 1));
        limits_leave(&p[1]);
        limits_leave(&p[2]);
        limits_teardown();
}

Test(limits, users_are_counted_until_they_leave)
{
        struct limits_place p[2];

        setup("");
        enter(&p[0], "10.0.0.1", "imap", 0, 0);
        enter(&p[1], "10.0.0.2", "imap", 1, 0);
        limits_user(&p[0], "ann");
        limits_user(&p[1], "ann");
        cr_expect_eq(limits_count_user("ann"), 2);
        limits_user(&p[1], "bob");
        cr_expect_eq(limits_count_user("ann"), 1);
        cr_expect_eq(limits_count_user("bob"), 1);
        limits_leave(&p[0]);
        limits_leave(&p[1]);
        cr_expect_eq(limits_count_user("ann"), 0);
        cr_expect_eq(limits_count_user("bob"), 0);
        limits_teardown();
}
