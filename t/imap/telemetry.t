#!t/transcript
# log/<user>/: that user's sessions are recorded from login on, without the password; an admin ends sessions
run mkdir conf/log/alice && chown --reference=conf conf/log/alice
a> SELECT INBOX
a< OK ...
a> NOOP
a< OK ...
run grep -q 'SELECT INBOX' conf/log/alice/imap-* && grep -q 'OK \[READ-WRITE\]' conf/log/alice/imap-*
run ! grep -r alice-pw conf/log
client b as bob
b> NOOP
b< OK ...
run test $(ls conf/log | wc -l) = 1

== an admin sees and ends a session
b> IDLE
b< + ...
run "$BUILD/cyrctl" -C $DIR/imapd.conf sessions | grep -q bob
run id=$("$BUILD/cyrctl" -C $DIR/imapd.conf sessions | awk '/bob/ { print $1; exit }'); "$BUILD/cyrctl" -C $DIR/imapd.conf sessions kick $id
b< * BYE ...
b< disconnect

== TERM says goodbye to everybody
server restart
a> NOOP
a< OK ...
