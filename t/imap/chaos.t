#!t/transcript
# Clients that hang up anywhere, in any state, for a few seconds: the server lives, and its store is clean (see chaos.pl).
config failedloginpause: 1s
a> NOOP
a< OK ...

== six of them at once
run for i in 1 2 3 4 5 6; do perl $TOP/t/imap/chaos.pl $IMAP ${CHAOS_SECONDS:-5} $i & done; wait
a> NOOP
a< OK ...

== the store is clean, also after kill -9
run "$BUILD/cyrctl" -C $DIR/imapd.conf check
server kill
run "$BUILD/cyrctl" -C $DIR/imapd.conf check
a> STATUS INBOX (MESSAGES)
a< OK ...
