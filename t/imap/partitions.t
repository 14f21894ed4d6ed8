#!t/transcript
# RENAME name name partition: a user's mailboxes go to another partition while sessions have them selected
config partition-other: %DIR%/other
config telemetry: no
client b as alice
client c as admin
mailbox INBOX 5 messages
a> CREATE Sub
a< OK ...
a> CREATE Sub/Deep
a< OK ...
a> SELECT INBOX
a< OK ...
b> SELECT INBOX
b< OK ...
c> NOOP
c< OK ...

== a mailbox and all below it; who has it selected sees nothing of it
c> RENAME user/alice user/alice other
c< OK ...
run for n in user/alice user/alice/Sub user/alice/Sub/Deep; do $BUILD/cyrctl -C $DIR/imapd.conf --json mailbox info $n | grep -q '"partition": *"other"' || exit 1; done
run test $(find $DIR/other -name 'log.*' | wc -l) -ge 3
# What is made below goes there, too, and so do parents that are made along; who is elsewhere stays there.
a> CREATE Sub/New/Deeper
a< OK ...
run for n in user/alice/Sub/New user/alice/Sub/New/Deeper; do $BUILD/cyrctl -C $DIR/imapd.conf --json mailbox info $n | grep -q '"partition": *"other"' || exit 1; done
run $BUILD/cyrctl -C $DIR/imapd.conf mailbox create user/alice/Sub/Ctl && $BUILD/cyrctl -C $DIR/imapd.conf --json mailbox info user/alice/Sub/Ctl | grep -q '"partition": *"other"'
run for n in Sub/New/Deeper Sub/New Sub/Ctl; do $BUILD/cyrctl -C $DIR/imapd.conf mailbox delete -n user/alice/$n || exit 1; done
run test $(find $DIR/spool -name 'log.*' | wc -l) -le 2    # admin's, and nobody else's
a> NOOP
a! * 5 EXISTS
a< OK ...
a> UID FETCH 1:* (FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])
a< * 1 FETCH (...)
a< * 2 FETCH (...)
a< * 3 FETCH (...)
a< * 4 FETCH (...)
a< * 5 FETCH (...)
a< OK ...
a> STORE 2 +FLAGS (\Flagged)
a< * 2 FETCH (FLAGS (\Flagged ...))
a< OK ...
b> NOOP
b< * 2 FETCH (FLAGS (\Flagged ...))
b< OK ...

== it is used while it is copied: what is acknowledged is there, what others do is seen
slow 100
c> RENAME user/alice user/alice default
a> APPEND INBOX (\Seen) {19+}
a>> From: a@b.c
a>> 
a>> body
a< * 6 EXISTS
a< OK [APPENDUID ...] ...
a> STORE 1 +FLAGS.SILENT (\Deleted)
a< OK ...
a> EXPUNGE
a< * 1 EXPUNGE
a< OK ...
b> NOOP
b< * 5 EXISTS
b< * 1 EXPUNGE
b< OK ...
c< OK ...
slow 0
a> FETCH 5 (UID BODY.PEEK[])
a< * 5 FETCH (UID 6 BODY[] ...)
a< OK ...
run test $(find $DIR/other -name 'log.*' | wc -l) -eq 0
run $BUILD/cyrctl -C $DIR/imapd.conf check >/dev/null

== IDLE hears of what happens meanwhile
slow 100
b> IDLE
b< + ...
c> RENAME user/alice user/alice other
a> STORE 1 +FLAGS (\Answered)
a< * 1 FETCH (FLAGS (\Answered ...))
a< OK ...
b<< * 1 FETCH (FLAGS (\Answered ...))
b>> DONE
b< OK ...
c< OK ...
slow 0

== one that is deleted on its way is gone, and leaves nothing there
a> CREATE Short
a< OK ...
slow 200
c> RENAME user/alice/Short user/alice/Short default
sleep 0.3
a> DELETE Short
a< OK ...
c< /OK|NO/ ...
slow 0
a> STATUS Short (MESSAGES)
a< NO [NONEXISTENT] ...
run test $(find $DIR/spool -name 'log.*' | wc -l) -le 2    # admin's, and what is deleted at most

== one of them alone; the rest of a tree follows
c> RENAME user/alice/Sub user/alice/Sub default
c< OK ...
run $BUILD/cyrctl -C $DIR/imapd.conf --json mailbox info user/alice/Sub/Deep | grep -q '"partition": *"default"'
run $BUILD/cyrctl -C $DIR/imapd.conf --json mailbox info user/alice | grep -q '"partition": *"other"'
c> RENAME user/alice user/alice OTHER
c< OK ...
run $BUILD/cyrctl -C $DIR/imapd.conf --json mailbox info user/alice/Sub/Deep | grep -q '"partition": *"other"'

== what is there already, nowhere, nobody's, or two things at once
c> RENAME user/alice user/alice other
c< NO [ALREADYEXISTS] ...
c> RENAME user/alice user/alice nowhere
c< NO [CANNOT] There is no such partition
c> RENAME user/alice user/alice ""
c< NO [CANNOT] There is no such partition
c> RENAME user/nobody user/nobody other
c< NO [NONEXISTENT] ...
c> RENAME user/alice/Sub user/alice/Sup default
c< NO ...
c> RENAME user/alice/Sub user/alice/Sub
c< NO ...
c> RENAME user/alice user/alice other more
c< BAD ...
a> RENAME INBOX INBOX default
a< NO [NOPERM] Permission denied
a> RENAME Sub Sub default
a< NO [NOPERM] Permission denied

== cyrctl says what went where, and empties a partition
run $BUILD/cyrctl -C $DIR/imapd.conf --json user move alice default | grep -c '"from": *"other"' | grep -qx 3
run $BUILD/cyrctl -C $DIR/imapd.conf mailbox move -o user/alice other | grep -q '^user/alice *other\|^user/alice *default *other'
run $BUILD/cyrctl -C $DIR/imapd.conf mailbox move -f other user default | grep -q 'user/alice .*other .*default'
run $BUILD/cyrctl -C $DIR/imapd.conf mailbox move -f other DELETED default | grep -q "DELETED/user/alice/Short/.* other .*default"
run test $(find $DIR/other -name 'log.*' | wc -l) -eq 0
run $BUILD/cyrctl -C $DIR/imapd.conf mailbox move user/alice default 2>&1 | grep -q 'already'
run ! $BUILD/cyrctl -C $DIR/imapd.conf mailbox move user/alice default >/dev/null 2>&1
run ! $BUILD/cyrctl -C $DIR/imapd.conf mailbox move user/alice nowhere >/dev/null 2>&1

== killed when it is there, and when it is on its way
server kill
client d as alice
d> EXAMINE INBOX
d< * 5 EXISTS
d< OK ...
client e as admin
slow 200
e> RENAME user/alice user/alice other
sleep 0.5
server kill
client f as alice
f> EXAMINE INBOX
f< * 5 EXISTS
f< OK ...
run $BUILD/cyrctl -C $DIR/imapd.conf check >/dev/null
run n=$(find $DIR/other $DIR/spool -name 'log.*' | sed 's,/log.*,,' | sort -u | wc -l); test $n -eq $($BUILD/cyrctl -C $DIR/imapd.conf --json list | grep -c '"type": *"normal"')
