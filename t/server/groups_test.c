/* What groups users are in: as the system says, also when it was asked before. */
#include <criterion/criterion.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>

#include "server/groups.h"

static void expect_as_the_system(const char *user)
{
        struct passwd *pw = getpwnam(user);
        gid_t gids[200];
        int n = 200;
        char **groups = groups_of(user);

        cr_assert(pw && getgrouplist(user, pw->pw_gid, gids, &n) >= 0);
        for (int i = 0; i < n; i++) {
                struct group *gr = getgrgid(gids[i]);
                bool found = !gr;

                for (char **g = groups; *g && gr; g++)
                        found |= strcmp(*g, gr->gr_name) == 0;
                cr_expect(found, "%s is in group %u", user, (unsigned)gids[i]);
        }
        groups_free(&groups);
        cr_expect_null(groups);
}

Test(groups, are_the_systems_each_time)
{
        for (int i = 0; i < 3; i++) {
                expect_as_the_system("root");
                expect_as_the_system("daemon");
        }
}

Test(groups, of_nobody_known_there_are_none, .timeout = 60)
{
        char name[32];

        for (int i = 0; i < 10100; i++) {               /* more than are kept */
                char **groups;

                snprintf(name, sizeof name, "nobody-known-%d", i % 10050);
                groups = groups_of(name);
                cr_assert(groups && !*groups, "%s", name);
                groups_free(&groups);
        }
        expect_as_the_system("root");
}

Test(groups, are_known_once_they_were_asked_for)
{
        char **groups = groups_known("daemon"), **asked;

        cr_expect_null(groups);
        asked = groups_of("daemon");
        groups = groups_known("daemon");
        cr_assert_not_null(groups);
        for (size_t i = 0; asked[i] || groups[i]; i++)
                cr_assert_str_eq(groups[i], asked[i]);
        groups_free(&groups);
        groups_free(&asked);
}

Test(groups, lists_are_the_callers)
{
        char **one = groups_of("root"), **two = groups_of("root");

        cr_assert(one[0] && two[0] && one[0] != two[0]);
        one[0][0] = '*';
        groups_free(&one);
        cr_expect_neq(two[0][0], '*');
        groups_free(&two);
}
