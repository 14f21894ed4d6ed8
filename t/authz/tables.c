/*
 * tables - the daemon's own command tables as text, one command a line, for t/authz/run: nothing can be added to a table without the model
 * hearing of it.
 *   imap NAME states=n writes=0|1 admin=0|1 exempt=0|1 selected=rights selected_any=rights named=rights any=rights above=rights
 *   pop3 NAME states=n rights=rights
 *   lmtp NAME needs=n
 *   control NAME reads=0|1
 *   sync VERB/NAME admin=0|1
 */
#include <stdio.h>

#include "replication/client_op.h"
#include "replication/reset.h"
#include "replication/server_private.h"
#include "replication/source.h"
#include "server/control/ops.h"
#include "server/imap/imap.h"
#include "server/lmtp/lmtp_private.h"
#include "server/pop3/pop3_private.h"

/* Letters without the legacy c and d. */
static void put(const char *key, uint32_t rights)
{
        char text[ACL_TEXT_MAX];

        acl_format_rights(text, rights);
        printf(" %s=", key);
        for (const char *p = text; *p; p++)
                if (*p != 'c' && *p != 'd')
                        putchar(*p);
}

static void put_ops(const struct ctl_op *ops, size_t n)
{
        for (size_t i = 0; i < n; i++)
                printf("control %s reads=%d\n", ops[i].name, !!(ops[i].flags & CTL_READS));
}

int main(void)
{
        size_t n;
        const struct ctl_op *ops = ctl_op_table(&n);

        for (size_t i = 0; i < imap_cmds_n; i++) {
                const struct imap_cmd *c = &imap_cmds[i];

                printf("imap %s states=%u writes=%d admin=%d exempt=%d", c->name, c->states, !!(c->flags & CMD_WRITES),
                       !!(c->flags & (CMD_ADMIN | CMD_ADMIN_ONLY)), !!(c->flags & CMD_ADMIN_EXEMPT));
                put("selected", c->needs.selected);
                put("selected_any", c->needs.selected_any);
                put("named", c->needs.named);
                put("any", c->needs.any);
                put("above", c->needs.above);
                putchar('\n');
        }
        for (size_t i = 0; i < pop3_cmds_n; i++) {
                printf("pop3 %s states=%u", pop3_cmds[i].name, pop3_cmds[i].states);
                put("rights", pop3_cmds[i].rights);
                putchar('\n');
        }
        for (size_t i = 0; i < lmtp_cmds_n; i++)
                printf("lmtp %s needs=%u\n", lmtp_cmds[i].name, lmtp_cmds[i].needs);
        for (size_t i = 0; i < sync_cmds_n; i++)
                printf("sync %s/%s admin=%d\n", sync_cmds[i].verb, sync_cmds[i].name, sync_cmds[i].needs == SYNC_ADMIN);
        put_ops(ops, n);
        client_op_register();
        sync_reset_register();                   /* as main.c does it */
        source_register();
        for (size_t i = 0; (ops = ctl_ops_added(i, &n)) != NULL; i++)
                put_ops(ops, n);
        return 0;
}
