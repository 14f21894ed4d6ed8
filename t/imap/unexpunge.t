#!t/transcript
# What was expunged comes back while the mailbox is selected; keywords that are forgotten are told of
mailbox INBOX 5 messages
a> SELECT INBOX
a< OK ...
b> SELECT INBOX
b< OK ...
a> STORE 2,4 +FLAGS (\Deleted Kept)
a< * 2 FETCH (FLAGS (\Deleted Kept ...))
a< * 4 FETCH (FLAGS (\Deleted Kept ...))
a< OK ...
a> EXPUNGE
a< * 2 EXPUNGE
a< * 3 EXPUNGE
a< OK ...

== it appears as new mail, with its flags, in every session
run $BUILD/cyrctl -C $DIR/imapd.conf expunged restore user/alice 2 -f Found | grep -q '^ *2 *6 *$'
a> NOOP
a< * 4 EXISTS
a< OK ...
a> UID FETCH 6 (FLAGS)
a< * 4 FETCH (UID 6 FLAGS (\Deleted Kept Found ...))
a< OK ...
b> NOOP
b< * 2 EXPUNGE
b< * 3 EXPUNGE
b< * 4 EXISTS
b< OK ...

== once only
run $BUILD/cyrctl -C $DIR/imapd.conf expunged restore user/alice 2 2>&1 | grep -q 'no message with UID 2 was expunged in user/alice$'
run ! $BUILD/cyrctl -C $DIR/imapd.conf expunged restore user/alice 77 2>/dev/null
run $BUILD/cyrctl -C $DIR/imapd.conf expunged list user/alice | grep -q '^ *4 '
a> NOOP
a! * 5 EXISTS
a< OK ...

== what no message has is no flag of the mailbox any more
a> STORE 4 -FLAGS (Kept)
a< * 4 FETCH (FLAGS (\Deleted Found ...))
a< OK ...
run $BUILD/cyrctl -C $DIR/imapd.conf expire -t
a> NOOP
a< * FLAGS (\Answered \Flagged \Deleted \Draft \Seen Found)
a< * OK [PERMANENTFLAGS (\Answered \Flagged \Draft \Deleted \Seen Found \*)] ...
a< OK ...
run $BUILD/cyrctl -C $DIR/imapd.conf expunged restore user/alice 4
a> NOOP
a< * 5 EXISTS
a< OK ...
a> UID FETCH 7 (FLAGS)
a< * 5 FETCH (UID 7 FLAGS (\Deleted \Recent))
a< OK ...
