/* The client of csync, where it needs no peer: forms of sync_host, sets of GUIDs, values as they come and how they are compared. */
#include <criterion/criterion.h>

#include "replication/client_private.h"

Test(client, forms_of_sync_host)
{
        static const struct { const char *text, *host, *port; bool ok, is_path, tls, noauth; } cases[] = {
                { "replica", "replica", "", true, false, false, false },
                { "replica:2005", "replica", "2005", true, false, false, false },
                { "replica:imaps/tls", "replica", "imaps", true, false, true, false },
                { "replica/tls", "replica", "", true, false, true, false },
                { "10.0.0.1:24/noauth", "10.0.0.1", "24", true, false, false, true },
                { "::1", "::1", "", true, false, false, false },
                { "[::1]:2005/tls", "::1", "2005", true, false, true, false },
                { "[::1]", "::1", "", true, false, false, false },
                { "/run/sync", "/run/sync", "", true, true, false, true },
                { "", "", "", false, false, false, false },
                { ":2005", "", "", false, false, false, false },
                { "replica:", "", "", false, false, false, false },
                { "replica/ssl", "", "", false, false, false, false },
                { "[::1]2005", "", "", false, false, false, false },
        };

        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                struct client_target t;
                struct err err = ERR_INIT;
                int rc = client_target_parse(cases[i].text, &t, &err);

                cr_expect_eq(rc == 0, cases[i].ok, "\"%s\": %s", cases[i].text, err.text);
                if (rc < 0) {
                        cr_expect_eq(err.code, ERR_CONFIG);
                        continue;
                }
                cr_expect_str_eq(t.host, cases[i].host);
                cr_expect_str_eq(t.port, cases[i].port);
                cr_expect(t.unix_socket == cases[i].is_path && t.tls == cases[i].tls && t.noauth == cases[i].noauth, "%s", cases[i].text);
        }
}

Test(client, a_host_that_is_too_long_is_refused)
{
        char text[600];
        struct client_target t;
        struct err err = ERR_INIT;

        memset(text, 'a', sizeof text - 1);
        text[sizeof text - 1] = '\0';
        cr_expect_eq(client_target_parse(text, &t, &err), -1);
        text[0] = '/';
        cr_expect_eq(client_target_parse(text, &t, &err), -1);
}

Test(client, a_set_of_guids_has_what_was_added_in_that_partition)
{
        struct guid_set s = { NULL, 0, 0 };
        uint8_t guid[GUID_SIZE] = { 0 };

        cr_expect_not(guid_set_has(&s, 1, guid));
        for (uint32_t i = 0; i < 5000; i++) {
                memcpy(guid, &i, sizeof i);
                guid_set_add(&s, 1 + i % 2, guid);
                guid_set_add(&s, 1 + i % 2, guid);
        }
        cr_expect_eq(s.n, 5000);
        for (uint32_t i = 0; i < 6000; i++) {
                memcpy(guid, &i, sizeof i);
                cr_expect_eq(guid_set_has(&s, 1 + i % 2, guid), i < 5000);
                cr_expect_not(guid_set_has(&s, 2 - i % 2, guid));
        }
        guid_set_clear(&s);
        cr_expect_not(guid_set_has(&s, 1, guid));
        guid_set_deinit(&s);
}

static const struct dlist *parse(struct arena *arena, const char *text)
{
        struct dlist_limits limits = DLIST_LIMITS_DEFAULT;
        struct dlist_parser *p = dlist_parser_create(arena, &limits, NULL);
        struct dlist *item = NULL;
        struct err err = ERR_INIT;
        size_t used;

        cr_assert_eq(dlist_parse(p, span_of(text), &used, &item, &err), 1, "%s", err.text);
        dlist_parser_destroy(&p);
        return item;
}

#define MAILBOX "MAILBOX %(UNIQUEID 9ypb8ezu1p33r946t07aj1sa MBOXNAME user.user2 SYNC_CRC 3151334822 SYNC_CRC_ANNOT 1010364930 LAST_UID 5 HIGHESTMODSEQ 7 " \
                "RECENTUID 2 RECENTTIME 1795310144 LAST_APPENDDATE 1795310144 POP3_LAST_LOGIN 0 POP3_SHOW_AFTER 0 UIDVALIDITY 1795310145 PARTITION default " \
                "ACL \"user2\tlrs\t\" OPTIONS PS CREATEDMODSEQ 1 FOLDERMODSEQ 2 ANNOTATIONS (%(ENTRY /b USERID \"\" MODSEQ 0 VALUE x) " \
                "%(ENTRY /a USERID joe MODSEQ 0 VALUE \"\")))\r\n"

Test(client, a_mailbox_of_a_reply_is_read)
{
        struct arena a = ARENA_INIT;
        struct replica_values v, other;
        struct err err = ERR_INIT;
        struct str what = STR_INIT;

        cr_assert_eq(client_values_parse(parse(&a, MAILBOX), false, &a, &v, &err), 0, "%s", err.text);
        cr_expect_str_eq(v.name, "user.user2");
        cr_expect_str_eq(v.acl, "user2\tlrs\t");
        cr_expect_eq(v.options, MBOX_POP3_NEW_UIDL | MBOX_SHARED_SEEN);
        cr_expect(v.crcs.basic == 3151334822u && v.crcs.annot == 1010364930u && v.last_uid == 5 && v.highestmodseq == 7 && v.foldermodseq == 2);
        cr_assert_eq(v.annots_n, 2);
        cr_expect_str_eq(v.annots[0].entry, "/a");      /* in order, whatever the replica's is */
        cr_expect_str_eq(v.annots[0].user, "joe");

        other = v;
        cr_expect(client_values_equal(&v, &other, &what));
        other.highestmodseq = 8;
        other.acl = "";
        other.crcs.basic = 1;
        cr_expect_not(client_values_equal(&v, &other, &what));
        cr_expect_str_eq(what.data, "highestmodseq acl crc");
        other = v;
        other.crcs.basic = other.crcs.annot = 0;        /* not known */
        other.foldermodseq = 0;
        other.last_appenddate = 1;                      /* is not compared */
        cr_expect(client_values_equal(&v, &other, NULL));
        str_deinit(&what);
        arena_deinit(&a);
}

Test(client, a_mailbox_without_what_it_needs_is_refused_by_name)
{
        static const char *const keys[] = { "UNIQUEID", "MBOXNAME", "LAST_UID", "HIGHESTMODSEQ", "RECENTUID", "RECENTTIME", "POP3_LAST_LOGIN", "UIDVALIDITY",
                                            "PARTITION", "ACL", "OPTIONS" };

        for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
                struct arena a = ARENA_INIT;
                struct replica_values v;
                struct err err = ERR_INIT;
                char *text = arena_strdup(&a, MAILBOX);

                strstr(text, keys[i])[0] = 'x';
                cr_expect_eq(client_values_parse(parse(&a, text), false, &a, &v, &err), -1, "%s", keys[i]);
                cr_expect(err.code == ERR_SYNTAX && strstr(err.text, keys[i]), "%s: %s", keys[i], err.text);
                arena_deinit(&a);
        }
}

Test(client, a_record_is_read_and_written_the_same)
{
        static const char text[] = "R %(UID 1 MODSEQ 17 LAST_UPDATED 1795311173 FLAGS (\\Flagged \\Seen $New foo) INTERNALDATE 1706781600 SIZE 138 "
                                   "GUID 7b4cfecdf164b0cf3bbd9f3a5586bb77de23581f ANNOTATIONS (%(ENTRY /comment USERID \"\" MODSEQ 15 VALUE both) "
                                   "%(ENTRY /vendor/cmu/cyrus-imapd/thrid USERID \"\" MODSEQ 0 VALUE 00000000000abcde) "
                                   "%(ENTRY /vendor/cmu/cyrus-imapd/savedate USERID \"\" MODSEQ 0 VALUE 1795310300) "
                                   "%(ENTRY /vendor/cmu/cyrus-imapd/createdmodseq USERID \"\" MODSEQ 0 VALUE 3)))\r\n";
        struct arena a = ARENA_INIT;
        struct replica_record rec, copy;
        struct err err = ERR_INIT;
        struct client c = { .out = STR_INIT };

        cr_assert_eq(client_record_parse(parse(&a, text), &a, &rec, &err), 0, "%s", err.text);
        cr_expect(rec.uid == 1 && rec.modseq == 17 && rec.flags == (MSG_FLAGGED | MSG_SEEN) && rec.keywords_n == 2 && rec.thrid == 0xabcde &&
                  rec.savedate == 1795310300 && rec.createdmodseq == 3 && rec.annots_n == 1);
        client_record_copy(&copy, &rec, &a);
        dlist_writer_init(&c.w, &c.out, DLIST_CLIENT);
        str_append_str(&c.out, "R ");
        client_record_write(&c, &copy, &a);
        str_append_str(&c.out, "\r\n");
        cr_expect_str_eq(c.out.data, text);
        str_deinit(&c.out);
        arena_deinit(&a);
}

Test(client, a_record_with_a_bad_value_is_refused)
{
        static const char *const bad[] = {
                "R %(UID 0 MODSEQ 1 LAST_UPDATED 1 FLAGS () INTERNALDATE 1 SIZE 1 GUID 7b4cfecdf164b0cf3bbd9f3a5586bb77de23581f)\r\n",
                "R %(UID 4294967296 MODSEQ 1 LAST_UPDATED 1 FLAGS () INTERNALDATE 1 SIZE 1 GUID 7b4cfecdf164b0cf3bbd9f3a5586bb77de23581f)\r\n",
                "R %(UID 1 MODSEQ -1 LAST_UPDATED 1 FLAGS () INTERNALDATE 1 SIZE 1 GUID 7b4cfecdf164b0cf3bbd9f3a5586bb77de23581f)\r\n",
                "R %(UID 1 MODSEQ 1 LAST_UPDATED 1 FLAGS NIL INTERNALDATE 1 SIZE 1 GUID 7b4cfecdf164b0cf3bbd9f3a5586bb77de23581f)\r\n",
                "R %(UID 1 MODSEQ 1 LAST_UPDATED 1 FLAGS (()) INTERNALDATE 1 SIZE 1 GUID 7b4cfecdf164b0cf3bbd9f3a5586bb77de23581f)\r\n",
                "R %(UID 1 MODSEQ 1 LAST_UPDATED 1 FLAGS () INTERNALDATE 1 SIZE 1 GUID 7b4c)\r\n",
                "R (UID 1)\r\n", "R NIL\r\n",
        };

        for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
                struct arena a = ARENA_INIT;
                struct replica_record rec;
                struct err err = ERR_INIT;

                cr_expect_eq(client_record_parse(parse(&a, bad[i]), &a, &rec, &err), -1, "%s", bad[i]);
                arena_deinit(&a);
        }
}
