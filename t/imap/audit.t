#!t/transcript
# auditlog: what was changed, by whom, in which session; telemetry of sessions that are open already
config auditlog: yes
mailbox INBOX 4 messages
mailbox Other 0 messages
mailbox Copies 0 messages

== each change has its line, with user, mailbox and UIDs
a> SELECT INBOX
a< OK ...
a> COPY 1:2 Copies
a< OK ...
a> MOVE 1 Other
a< OK ...
a> STORE 1 +FLAGS (\Deleted)
a< OK ...
a> EXPUNGE
a< OK ...
a> CREATE New
a< OK ...
a> RENAME New Newer
a< OK ...
a> SETACL Newer bob lr
a< OK ...
a> DELETE Newer
a< OK ...
a> CREATE ""
a< ...
run grep -q 'audit.append .*user=alice mailbox=user.alice uniqueid=[a-z0-9]* messages=1 uids=4' log
run grep -q 'audit.copy .*mailbox=user.alice.Copies .*messages=2 uids=1:2 from=user.alice' log
run grep -q 'audit.move .*mailbox=user.alice.Other .*uids=1 from=user.alice' log
run test $(grep -c 'audit.expunge .*mailbox=user.alice ' log) = 2
run grep -q 'audit.create .*mailbox=user.alice.New$' log
run grep -q 'audit.rename .*mailbox=user.alice.New to=user.alice.Newer' log
run grep -q 'audit.setacl .*mailbox=user.alice.Newer' log
run grep -q 'audit.delete .*mailbox=user.alice.Newer' log
run ! grep -q 'audit.select\|audit.getacl' log

== telemetry begins and ends while the session is open
a> NOOP
a< OK ...
run mkdir conf/log/alice && chown --reference=conf conf/log/alice
sleep 1.1
a> NOOP
a< OK ...
a> STATUS Copies (MESSAGES)
a< * STATUS Copies (MESSAGES 2)
a< OK ...
run grep -q 'STATUS Copies (MESSAGES' conf/log/alice/imap-*
run mv conf/log/alice conf/log/alice.old
sleep 1.1
a> NOOP
a< OK ...
a> STATUS Other (MESSAGES)
a< OK ...
run ! grep -q 'STATUS Other' conf/log/alice.old/imap-*
