#!t/transcript
# expunge_mode: immediate and delete_mode: immediate. What is gone is forgotten; who was not told of it yet is not harmed
config expunge_mode: immediate
config delete_mode: immediate
mailbox INBOX 6 messages
a> ENABLE QRESYNC
a< OK ...
a> SELECT INBOX
a< * OK [UIDVALIDITY $v] ...
a< * OK [HIGHESTMODSEQ $m0] ...
a< OK ...
b> SELECT INBOX
b< OK ...
a> STORE 2:3 +FLAGS.SILENT (\Deleted)
a< OK ...
a> EXPUNGE
a< * VANISHED 2:3
a< OK ...
sleep 2

== nothing is left to bring back
run test -z "$($BUILD/cyrctl -C $DIR/imapd.conf expunged list user/alice)"

== a session that still counts them gets what there is, and is told
b> FETCH 1:4 (UID BODY.PEEK[])
b< * 1 FETCH (UID 1 BODY[] ...)
b< * 4 FETCH (UID 4 BODY[] ...)
b! * 2 FETCH (UID 2 BODY[] ...)
b< NO ...
b> NOOP
b< * 2 EXPUNGE
b< * 2 EXPUNGE
b< OK ...
b> SEARCH ALL
b< * SEARCH 1 2 3 4
b< OK ...

== how long ago they went is not known any more: everything that is not there has vanished
c> ENABLE QRESYNC
c< OK ...
c> SELECT INBOX (QRESYNC ($v $m0))
c< * VANISHED (EARLIER) 2:3
c< OK ...

== a deleted mailbox is gone
c> CREATE Old
c< OK ...
c> DELETE Old
c< OK ...
run test -z "$($BUILD/cyrctl -C $DIR/imapd.conf list 'DELETED*')"
run $BUILD/cyrctl -C $DIR/imapd.conf check
