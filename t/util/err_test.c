#include <criterion/criterion.h>
#include <errno.h>

#include "util/array.h"
#include "util/err.h"

Test(err, set_fills_code_and_text_and_is_always_minus_1)
{
        struct err err = ERR_INIT;

        cr_expect_eq(err_set(&err, ERR_LIMIT, "%d octets", 7), -1);
        cr_expect_eq(err.code, ERR_LIMIT);
        cr_expect_str_eq(err.text, "7 octets");
        cr_expect_eq(err_set(NULL, ERR_LIMIT, "x"), -1);
        cr_expect_eq(err_errno(NULL, EIO, "x"), -1);
        cr_expect_eq(err_prefix(NULL, "x"), -1);
        err_clear(&err);
        cr_expect_eq(err.code, ERR_NONE);
        cr_expect_str_eq(err.text, "");
        err_clear(NULL);
}

Test(err, an_error_may_be_made_from_its_own_text)
{
        struct err err = ERR_INIT;

        err_set(&err, ERR_IO, "disk");
        err_set(&err, ERR_CORRUPT, "mailbox x: %s", err.text);
        cr_expect_str_eq(err.text, "mailbox x: disk");
        err_prefix(&err, "user %s", "ann");
        cr_expect_str_eq(err.text, "user ann: mailbox x: disk");
        cr_expect_eq(err.code, ERR_CORRUPT);
}

Test(err, errno_chooses_the_code)
{
        static const struct { int e; enum err_code code; } cases[] = {
                { ENOSPC, ERR_NOSPACE }, { EDQUOT, ERR_NOSPACE }, { ENOENT, ERR_NOTFOUND }, { EROFS, ERR_READONLY }, { EEXIST, ERR_EXISTS },
                { ENOMEM, ERR_NOMEM }, { EIO, ERR_IO }, { EACCES, ERR_IO },
        };

        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                struct err err = ERR_INIT;

                err_errno(&err, cases[i].e, "open %s", "f");
                cr_expect_eq(err.code, cases[i].code);
                cr_expect(strncmp(err.text, "open f: ", 8) == 0 && strlen(err.text) > 8, "%s", err.text);
        }
}

Test(err, long_texts_are_cut_not_overrun)
{
        struct err err = ERR_INIT, copy = ERR_INIT;
        char longest[1000];

        memset(longest, 'x', sizeof longest - 1);
        longest[sizeof longest - 1] = '\0';
        err_set(&err, ERR_IO, "%s", longest);
        cr_expect_eq(strlen(err.text), ERR_TEXT_MAX - 1);
        err_prefix(&err, "%s", longest);
        cr_expect_eq(strlen(err.text), ERR_TEXT_MAX - 1);
        err_errno(&err, EIO, "%s", longest);
        cr_expect_eq(strlen(err.text), ERR_TEXT_MAX - 1);
        err_copy(&copy, &err);
        cr_expect_str_eq(copy.text, err.text);
        err_copy(&copy, &copy);
        err_copy(NULL, &err);
        cr_expect_eq(copy.code, ERR_IO);
}

Test(err, every_code_has_a_name_of_its_own)
{
        for (int a = 0; a < ERR_CODE_MAX; a++) {
                cr_assert_not_null(err_code_name((enum err_code)a));
                for (int b = 0; b < a; b++)
                        cr_expect_str_neq(err_code_name((enum err_code)a), err_code_name((enum err_code)b));
        }
        cr_expect_str_eq(err_code_name(ERR_INTERNAL), "internal");
        cr_expect_str_eq(err_code_name(ERR_CODE_MAX), "unknown");
}
