/* commands - see commands.h */
#include "server/ctl/commands.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "server/ctl/explain.h"
#include "server/ctl/samples.h"
#include "server/ctl/top.h"
#include "server/ctl/trace.h"
#include "server/ctl/transfer.h"
#include "server/ctl/verify.h"
#include "util/array.h"

#define QUOTA_COLUMNS "root=Root resource=Resource used=Used limit=Limit percent=%"
#define EXPUNGED_COLUMNS "uid=UID octets=Octets received@=Received expunged@=Expunged from=From subject=Subject"
#define MOVED_COLUMNS "mailbox=Mailbox from=From to=To octets=Octets"
#define SYNC_COLUMNS "channel=Channel state=State mode=Mode peer=Replica lag_s=Lag events=Events quarantined=Quarantined error=Problem"
#define FAILOVER_COLUMNS "epoch=Epoch planned=Planned loss=Loss"
#define FAILOVER_STATUS_COLUMNS "role=Role epoch=Epoch since@=Since mode=Mode promotable=Promotable missing=Missing problem=Problem"
#define ENTRY_COLUMNS "mailbox=Mailbox type=Type partition=Partition specialuse=Use acl=ACL"

const struct ctl_command ctl_commands[] = {
        { "status", "status", "", "", NULL, "what the daemon, its services and its partitions do" },
        { "sessions", "sessions", "", "",
          "session=Session service=Service user=User peer=Peer tls=TLS age_s=Age idle_s=Idle mailbox=Mailbox command=Command",
          "who is connected" },
        { "sessions kick", "sessions.kick", "session", "", NULL, "end a session" },
        { "top", "top", "", "-c:=count -i:=interval -n:=lines -s:=sort -u=users", NULL,
          "who does how much just now (-c pictures, -i seconds apart, -n lines of them, -s rate in out idle age user, -u by user)" },
        { "info", "info", "[mailbox]", "", NULL, "what this server is made of and goes by, or everything about a mailbox" },
        { "trace", "trace.list", "", "", NULL, "whose sessions are recorded (telemetry), or were" },
        { "trace list", "trace.list", "", "", NULL, "the same" },
        { "trace on", "trace.on", "target", "-t:=minutes -u=user", NULL,
          "record the sessions of a user, open ones too, or one session (-t minutes, 60; 0: no end; -u: it is a user)" },
        { "trace off", "trace.off", "target", "-u=user", NULL, "end that; what was recorded stays" },
        { "trace follow", "trace.follow", "target", "-t:=minutes -u=user", NULL,
          "show what is said as it is said, until it is interrupted; as trace on, and off again if it was off" },
        { "metrics", "metrics", "", "", NULL, "what the daemon counts, as Prometheus reads it" },
        { "list", "list", "[pattern]", "", ENTRY_COLUMNS, "mailboxes; * and % in the pattern as in IMAP" },
        { "mailbox list", "list", "[pattern]", "", ENTRY_COLUMNS, "the same" },
        { "mailbox info", "mailbox.info", "mailbox", "", NULL, "everything about a mailbox" },
        { "mailbox create", "mailbox.create", "mailbox", "-p:=partition -u:=specialuse", ENTRY_COLUMNS, "make a mailbox" },
        { "mailbox delete", "mailbox.delete", "mailbox", "-r=recursive -n=immediately", NULL,
          "delete a mailbox (-r: and all below it; -n: now, whatever delete_mode says)" },
        { "mailbox rename", "mailbox.rename", "mailbox to", "", NULL, "rename a mailbox and all below it" },
        { "mailbox move", "mailbox.move", "mailbox partition", "-f:=from -o=only", MOVED_COLUMNS,
          "a mailbox and all below it to another partition, while they are used (-o: only it; -f: only what is in that partition)" },
        { "mailbox specialuse", "mailbox.specialuse", "mailbox [specialuse]", "", NULL, "set \\Sent, \\Trash …, or nothing" },
        { "acl get", "acl.get", "mailbox", "", "identifier=Identifier rights=Rights", "who may do what" },
        { "acl list", "acl.get", "mailbox", "", "identifier=Identifier rights=Rights", "the same" },
        { "acl set", "acl.set", "mailbox identifier rights", "", NULL, "set (lrs), add (+lrs) or take away (-lrs) rights; also cyradm's words: read, write, all …" },
        { "acl delete", "acl.set", "mailbox identifier", "", NULL, "take all rights of an identifier away" },
        { "metadata list", "metadata.list", "[mailbox]", "-u:=user", "entry=Entry value=Value",
          "all entries of METADATA of a mailbox, or of the server (-u: with this user's private ones)" },
        { "metadata get", "metadata.list", "mailbox entry", "-u:=user", "entry=Entry value=Value",
          "one entry, /shared/… or /private/…; \"\" as mailbox: the server" },
        { "metadata set", "metadata.set", "mailbox entry [value]", "-u:=user", "entry=Entry value=Value",
          "set an entry; without a value: remove it" },
        { "user list", "user.list", "", "", "user=User mailboxes=Mailboxes", "all users with mailboxes" },
        { "user info", "user.info", "user", "", "mailbox=Mailbox messages=Messages unseen=Unseen octets=Octets", "a user's mailboxes" },
        { "user create", "user.create", "user", "-p:=partition", NULL, "make a user's INBOX" },
        { "user delete", "user.delete", "user", "-n=immediately", NULL, "delete all mailboxes of a user" },
        { "user move", "user.move", "user partition", "-f:=from", MOVED_COLUMNS, "all mailboxes of a user to another partition" },
        { "user rename", "user.rename", "user to", "", NULL, "give all mailboxes of a user to a new name" },
        { "quota", "quota.list", "[root]", "-a=all", QUOTA_COLUMNS, "quota roots at and below a name (-a: with what is not limited)" },
        { "quota list", "quota.list", "[root]", "-a=all", QUOTA_COLUMNS, "the same" },
        { "quota set", "quota.set", "root", "-s:=storage -m:=messages -b:=mailboxes -n:=annotations", QUOTA_COLUMNS,
          "limit a mailbox and all below it: -s KiB (or 10M, 2G), -m messages, -b mailboxes, -n KiB of annotations; none: no limit" },
        { "quota delete", "quota.delete", "root", "", NULL, "remove a quota root: its mailboxes go to the next one above" },
        { "quota fix", "quota.fix", "[root]", "-n=dry", "root=Root resource=Resource was=Was now=Now",
          "add up what mailboxes hold and put the usage right (-n: only say)" },
        { "check", "check", "[mailbox]", "", NULL, "read everything back and compare; changes nothing" },
        { "reconstruct", "reconstruct", "[mailbox]", "-q=quiet", NULL, "rebuild index and counters from the log" },
        { "expire", "expire", "[prefix]", "-x:=messages -d:=mailboxes -e:=duplicates -u:=user -t=keywords", NULL,
          "let go of messages expunged, mailboxes deleted and deliveries remembered more than so many days ago (7), and expunge what the entry expire makes too old" },
        { "expunged", "expunged.list", "mailbox [uids]", "", EXPUNGED_COLUMNS, "messages that were expunged and can be brought back" },
        { "expunged list", "expunged.list", "mailbox [uids]", "", EXPUNGED_COLUMNS, "the same" },
        { "expunged restore", "expunged.restore", "mailbox [uids]", "-a=all -t:=within -d=undelete -f:=keyword",
          "uid=UID restored=Restored restored_total=Total",
          "bring them back under new UIDs: some (1:5,7), all (-a), or those of the last 12h (-t); -d: not \\Deleted; -f: with this keyword" },
        { "purge", "message.purge", "[pattern]", "-d:=days -s:=octets -f=users -n=dry -o=only_deleted -k=keep_flagged -r=received",
          "mailbox=Mailbox messages=Messages octets=Octets expunged=Expunged expunged_octets=Octets problem=Problem",
          "expunge messages older than so many days (by Date; -r: by arrival) or larger (-s 10M); -f: users' too, -o: those \\Deleted, -k: not those \\Flagged" },
        { "sync", "sync.status", "", "-n:=channel", SYNC_COLUMNS, "how replication stands, a line a channel (-n: this one)" },
        { "sync status", "sync.status", "", "-n:=channel", SYNC_COLUMNS, "the same" },
        { "sync now", "sync.now", "", "-n:=channel -c=compare", NULL,
          "replicate what has changed without waiting, and wait until that is done (-c: compare everything with the replica, too)" },
        { "sync quarantine", "sync.quarantine", "", "-n:=channel",
          "channel=Channel item=Item since@=Since tries=Tries next@=Next reason=Reason", "what fails, and is left out until it works" },
        { "sync retry", "sync.retry", "[item]", "-n:=channel", "retried=Retried", "try that again now: one item as sync quarantine has it, or all" },
        { "sync verify", "sync.verify", "[user]", "-n:=channel -S:=host", "user=User mailbox=Mailbox differs=Differs",
          "compare all values and checksums with the replica (of one user; -S: of this host), and tell each difference" },
        { "failover", "failover.promote", "", "-l=accept-loss", FAILOVER_COLUMNS,
          "make this replica the master: the other host hands over, or is fenced (--accept-loss: though changes may be missing here)" },
        { "failover promote", "failover.promote", "", "-l=accept-loss", FAILOVER_COLUMNS, "the same" },
        { "failover status", "failover.status", "", "", FAILOVER_STATUS_COLUMNS, "which role this host has, and what a promotion without the master would say" },
        { "failover init", "failover.init", "", "", NULL, "make this host the first master" },
        { "failover alone", "failover.alone", "", "", NULL,
          "have this master, which waits for the other host, go on without it: that one must not be promoted any more but with --accept-loss" },
        { "failover join", "failover.join", "", "-d=discard", "mailbox=Mailbox differs=Differs",
          "make this host, which was the master, the replica of the one that replaced it (--discard: and lose mailboxes that are only here)" },
        { "df", "df", "", "", "partition=Partition kib=KiB used_kib=Used available_kib=Available percent=% directory=Directory error=Error",
          "the room in the partitions" },
        { "import", "import", "mailbox path", "-n=dry", NULL,
          "bring in a Maildir with its folders, or mbox files; can be run again (-n: only tell)" },
        { "export", "export", "mailbox path", "-m=mbox", NULL, "write a mailbox and all below it as a Maildir (-m: mbox files)" },
        { "config", "config", "[option]", "-a=all", "option=Option value=Value handled=Handled purpose=Purpose",
          "options in force (-a: with defaults)" },
        { "config show", "config", "[option]", "-a=all", "option=Option value=Value handled=Handled purpose=Purpose", "the same" },
        { "config check", "config.check", "[imapd.conf] [cyrus.conf]", "-q=quiet", NULL,
          "what becomes of every key of both files, why, and what is wrong (-q: without what is simply honoured)" },
};
const size_t ctl_commands_n = ARRAY_LEN(ctl_commands);

/* About a mailbox it is mailbox info. */
static int info_run(struct ctl_client *client, json_t *args, struct err *err)
{
        return ctl_client_call(client, json_object_get(args, "mailbox") ? "mailbox.info" : "info", args, err);
}

static const struct ctl_local locals[] = {
        { "config.check", explain_run, true },
        { "export", transfer_export, false },
        { "import", transfer_import, false },
        { "info", info_run, false },
        { "metrics", samples_run, false },
        { "top", top_run, false },
        { "sync.verify", verify_run, false },
        { "trace.follow", trace_follow_run, false },
};

const struct ctl_local *ctl_local_find(const char *op)
{
        for (size_t i = 0; i < ARRAY_LEN(locals); i++)
                if (strcmp(locals[i].op, op) == 0)
                        return &locals[i];
        return NULL;
}

static int words_match(const char *words, int argc, char *const *argv)
{
        int n = 0;

        while (*words) {
                size_t len = strcspn(words, " ");

                if (n >= argc || strlen(argv[n]) != len || memcmp(argv[n], words, len) != 0)
                        return 0;
                n++;
                words += len + (words[len] == ' ');
        }
        return n;
}

const struct ctl_command *ctl_command_find(int argc, char *const *argv, int *used_r)
{
        const struct ctl_command *best = NULL;

        *used_r = 0;
        for (size_t i = 0; i < ctl_commands_n; i++) {
                int n = words_match(ctl_commands[i].words, argc, argv);

                if (n > *used_r) {
                        *used_r = n;
                        best = &ctl_commands[i];
                }
        }
        return best;
}

/* Is `word` a flag: "-p", "--partition" or "--partition=x"? `value_r`: what follows its "=", NULL nothing. */
static bool find_flag(const char *flags, const char *word, char key[32], bool *wants_r, const char **value_r)
{
        size_t name = strncmp(word, "--", 2) == 0 ? strcspn(word + 2, "=") : 0;

        *value_r = name && word[2 + name] ? word + 2 + name + 1 : NULL;
        for (const char *p = flags; *p;) {
                size_t len = strcspn(p, " ");
                const char *eq = memchr(p, '=', len);
                size_t key_len = (size_t)(p + len - eq - 1);

                if (name ? key_len == name && memcmp(eq + 1, word + 2, name) == 0 : word[1] == p[1] && !word[2]) {
                        *wants_r = p[2] == ':';
                        snprintf(key, 32, "%.*s", (int)key_len, eq + 1);
                        return true;
                }
                p += len + (p[len] == ' ');
        }
        return false;
}

/* May an argument of this name begin with "-" as it is: "-lrs", negative rights of "-joe"? */
static bool begins_so(const char *argument, size_t len)
{
        static const char *const names[] = { "identifier", "rights", "value" };

        for (size_t i = 0; i < ARRAY_LEN(names); i++)
                if (len == strlen(names[i]) && memcmp(argument, names[i], len) == 0)
                        return true;
        return false;
}

/* The next argument in a synopsis, without its brackets. */
static size_t argument_name(const char *want, const char **name_r)
{
        size_t len = strcspn(want, " ");

        *name_r = want + (want[0] == '[');
        return want[0] == '[' ? len - 2 : len;
}

/* Take the flag at argv[*i]; `want`: the arguments that are still to come. 1; 0: it is none; -1 with a message in `why`. */
static int take_flag(const struct ctl_command *cmd, const char *want, int argc, char *const *argv, int *i, json_t *args, char *why, size_t size)
{
        const char *word = argv[*i], *value, *argument;
        size_t argument_len = argument_name(want, &argument);
        bool wants = false;
        char key[32];

        if (word[0] != '-' || !word[1])
                return 0;
        if (!find_flag(cmd->flags, word, key, &wants, &value)) {
                if (word[1] != '-' && begins_so(argument, argument_len))
                        return 0;
                snprintf(why, size, "there is no option %.60s%s", word, argument_len ? "; an argument that begins so stands behind --" : "");
                return -1;
        }
        if (value && !wants) {
                snprintf(why, size, "--%s takes no value", key);
                return -1;
        }
        if (wants && !value && ++*i >= argc) {
                snprintf(why, size, "%.60s needs a value", word);
                return -1;
        }
        if (json_object_set_new(args, key, !wants ? json_true() : json_string(value ? value : argv[*i])) < 0) {
                snprintf(why, size, "the value of %.60s is not UTF-8", word);
                return -1;
        }
        return 1;
}

json_t *ctl_command_args(const struct ctl_command *cmd, int argc, char *const *argv, char *why, size_t size)
{
        json_t *args = json_object();
        const char *want = cmd->args;
        bool only_words = false;

        for (int i = 0; i < argc; i++) {
                const char *word = argv[i];
                const char *name;
                char key[32];
                size_t len;
                int flag;

                if (!only_words && strcmp(word, "--") == 0) {
                        only_words = true;
                        continue;
                }
                flag = only_words ? 0 : take_flag(cmd, want, argc, argv, &i, args, why, size);
                if (flag < 0)
                        goto fail;
                if (flag > 0)
                        continue;
                if (!*want) {
                        snprintf(why, size, "unexpected argument \"%.100s\"", word);
                        goto fail;
                }
                len = argument_name(want, &name);
                snprintf(key, sizeof key, "%.*s", (int)len, name);
                if (json_object_set_new(args, key, json_string(word)) < 0) {
                        snprintf(why, size, "%s is not UTF-8", key);
                        goto fail;
                }
                want += strcspn(want, " ");
                want += *want == ' ';
        }
        if (*want && *want != '[') {
                snprintf(why, size, "%.*s is missing", (int)strcspn(want, " "), want);
                goto fail;
        }
        if (strcmp(cmd->words, "acl delete") == 0)
                json_object_set_new(args, "rights", json_string(""));
        return args;
fail:
        json_decref(args);
        return NULL;
}
