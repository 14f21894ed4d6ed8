#!t/transcript
# expunge_mode: semidelayed. Nothing comes back, VANISHED is told, sessions that were not told yet live on
config expunge_mode: semidelayed
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

== there is nothing to bring back
run test -z "$($BUILD/cyrctl -C $DIR/imapd.conf expunged list user/alice)"
run $BUILD/cyrctl -C $DIR/imapd.conf expunged restore user/alice -a | grep -q '^ *0$'

== that they were there is remembered, also after a restart
b> FETCH 1:3 (UID)
b< * 1 FETCH (UID 1)
b< OK ...
server restart
c> ENABLE QRESYNC
c< OK ...
c> SELECT INBOX (QRESYNC ($v $m0))
c< * VANISHED (EARLIER) 2:3
c< OK ...
run $BUILD/cyrctl -C $DIR/imapd.conf check

== MOVE and REPLACE leave nothing behind either
c> CREATE Other
c< OK ...
c> MOVE 1 Other
c< * VANISHED 1
c< OK ...
run test -z "$($BUILD/cyrctl -C $DIR/imapd.conf expunged list user/alice)"

== a copy of the mailbox's index agrees with its log
run $BUILD/cyrctl -C $DIR/imapd.conf reconstruct user/alice
run $BUILD/cyrctl -C $DIR/imapd.conf check
