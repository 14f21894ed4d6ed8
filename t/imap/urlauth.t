#!t/transcript
# URLAUTH (RFC 4467), URL-PARTIAL (RFC 5550): authorized URLs
config submitservers: submit other
user submit
user fred
covers URLAUTH URL-PARTIAL
client s as submit
client b as bob
client f as fred
a> APPEND INBOX {187+}
a>= "Subject: burl\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nfirst\r\n--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\none\r\n--c\r\n\r\nSi vis pacem, para bellum.\r\n\r\n--c--\r\n--b--\r\n\r\n"
a< OK ...
a> SELECT INBOX
a< * OK [URLMECH INTERNAL] ...
a< OK ...

== a URL for a submission server (RFC 4467, examples)
a> GENURLAUTH "imap://alice@localhost/INBOX/;uid=1/;section=2.2" INTERNAL
a< BAD Missing access identifier in the URL
a> GENURLAUTH "imap://localhost/Shared/;uid=1/;section=2.2;urlauth=submit+fred" INTERNAL
a< BAD Missing owner's user name in the URL
a> GENURLAUTH "imap://alice@localhost/INBOX/;uid=1/;section=2.2;urlauth=submit+fred" INTERNAL
a< * GENURLAUTH "imap://alice@localhost/INBOX/;uid=1/;section=2.2;urlauth=submit+fred:internal:$t"
a< OK GENURLAUTH completed
s> URLFETCH "imap://alice@localhost/INBOX/;uid=1/;section=2.2;urlauth=submit+fred:internal:$t"
s< * URLFETCH "imap://alice@localhost/INBOX/;uid=1/;section=2.2;urlauth=submit+fred:internal:$t" /Si vis pacem, para bellum.\r\n/
s< OK URLFETCH completed

== nobody else may present it, not even its maker
b> URLFETCH "imap://alice@localhost/INBOX/;uid=1/;section=2.2;urlauth=submit+fred:internal:$t"
b< * URLFETCH "imap://alice@localhost/INBOX/;uid=1/;section=2.2;urlauth=submit+fred:internal:$t" NIL
b< OK ...
f> URLFETCH "imap://alice@localhost/INBOX/;uid=1/;section=2.2;urlauth=submit+fred:internal:$t"
f< * URLFETCH ... NIL
f< OK ...
a> URLFETCH "imap://alice@localhost/INBOX/;uid=1/;section=2.2;urlauth=submit+fred:internal:$t"
a< * URLFETCH ... NIL
a< OK ...

== any change of it makes it worthless: section, message, case, access, token
s> URLFETCH "imap://alice@localhost/INBOX/;uid=1;urlauth=submit+fred:internal:$t"
s< * URLFETCH ... NIL
s< OK ...
s> URLFETCH "imap://alice@localhost/INBOX/;uid=1/;section=2.2;urlauth=submit+bob:internal:$t"
s< * URLFETCH ... NIL
s< OK ...
s> URLFETCH "imap://alice@localhost/INBOX/;UID=1/;section=2.2;urlauth=submit+fred:internal:$t"
s< * URLFETCH ... NIL
s< OK ...
s> URLFETCH "imap://alice@LOCALHOST/INBOX/;uid=1/;section=2.2;urlauth=submit+fred:internal:$t"
s< * URLFETCH ... NIL
s< OK ...
s> URLFETCH "imap://alice@localhost/INBOX/;uid=1/;section=2.2;urlauth=submit+fred:internal:00$t"
s< * URLFETCH ... NIL
s< OK ...
s> URLFETCH "imap://alice@localhost/INBOX/;uid=1/;section=2.2;urlauth=submit+fred:internal:91354a473744909de610943775f92038"
s< * URLFETCH ... NIL
s< OK ...
s> URLFETCH "imap://alice@localhost/INBOX/;uid=1/;section=2.2;urlauth=submit+fred:xsample:$t"
s< * URLFETCH ... NIL
s< OK ...

== user+, authuser, anonymous; several at once; \Seen stays
a> GENURLAUTH "imap://alice@localhost/INBOX/;uid=1/;section=1;urlauth=user+bob" INTERNAL "imap://alice@localhost/INBOX/;uid=1/;section=HEADER;urlauth=authuser" internal "imap://alice@localhost/INBOX/;uid=1;urlauth=anonymous" INTERNAL
a< * GENURLAUTH "imap://alice@localhost/INBOX/;uid=1/;section=1;urlauth=user+bob:internal:$u" "imap://alice@localhost/INBOX/;uid=1/;section=HEADER;urlauth=authuser:internal:$w" "imap://alice@localhost/INBOX/;uid=1;urlauth=anonymous:internal:$x"
a< OK ...
b> URLFETCH "imap://alice@localhost/INBOX/;uid=1/;section=1;urlauth=user+bob:internal:$u" "imap://alice@localhost/INBOX/;uid=1/;section=HEADER;urlauth=authuser:internal:$w" "imap://alice@localhost/INBOX/;uid=1;urlauth=anonymous:internal:$x"
b< * URLFETCH "imap://alice@localhost/INBOX/;uid=1/;section=1;urlauth=user+bob:internal:$u" "first" "imap://alice@localhost/INBOX/;uid=1/;section=HEADER;urlauth=authuser:internal:$w" "Subject: burl..." "imap://alice@localhost/INBOX/;uid=1;urlauth=anonymous:internal:$x" "Subject: burl..."
b< OK ...
f> URLFETCH "imap://alice@localhost/INBOX/;uid=1/;section=1;urlauth=user+bob:internal:$u" "imap://alice@localhost/INBOX/;uid=1/;section=HEADER;urlauth=authuser:internal:$w"
f< * URLFETCH "imap://alice@localhost/INBOX/;uid=1/;section=1;urlauth=user+bob:internal:$u" NIL "imap://alice@localhost/INBOX/;uid=1/;section=HEADER;urlauth=authuser:internal:$w" "Subject: burl..."
f< OK ...
a> FETCH 1 FLAGS
a! * 1 FETCH (FLAGS (... \Seen ...))
a< * 1 FETCH (FLAGS (...))
a< OK ...

== partial (RFC 5550), header fields, expiry
a> GENURLAUTH "imap://alice@localhost/INBOX/;uid=1/;section=2.2/;partial=3.8;urlauth=authuser" INTERNAL "imap://alice@localhost/INBOX/;uid=1/;section=HEADER.FIELDS%20(SUBJECT)/;partial=9;urlauth=authuser" INTERNAL
a< * GENURLAUTH "imap://alice@localhost/INBOX/;uid=1/;section=2.2/;partial=3.8;urlauth=authuser:internal:$p" "imap://alice@localhost/INBOX/;uid=1/;section=HEADER.FIELDS%20(SUBJECT)/;partial=9;urlauth=authuser:internal:$q"
a< OK ...
b> URLFETCH "imap://alice@localhost/INBOX/;uid=1/;section=2.2/;partial=3.8;urlauth=authuser:internal:$p" "imap://alice@localhost/INBOX/;uid=1/;section=HEADER.FIELDS%20(SUBJECT)/;partial=9;urlauth=authuser:internal:$q"
b< * URLFETCH ... "vis pace" ... /burl\r\n\r\n/
b< OK ...
a> GENURLAUTH "imap://alice@localhost/INBOX/;uid=1;expire=2001-01-01T00:00:00Z;urlauth=authuser" INTERNAL "imap://alice@localhost/INBOX/;uid=1;expire=2101-01-01T00:00:00+01:00;urlauth=authuser" INTERNAL
a< * GENURLAUTH "imap://alice@localhost/INBOX/;uid=1;expire=2001-01-01T00:00:00Z;urlauth=authuser:internal:$g" "imap://alice@localhost/INBOX/;uid=1;expire=2101-01-01T00:00:00+01:00;urlauth=authuser:internal:$h"
a< OK ...
b> URLFETCH "imap://alice@localhost/INBOX/;uid=1;expire=2001-01-01T00:00:00Z;urlauth=authuser:internal:$g" "imap://alice@localhost/INBOX/;uid=1;expire=2101-01-01T00:00:00+01:00;urlauth=authuser:internal:$h"
b< * URLFETCH "imap://alice@localhost/INBOX/;uid=1;expire=2001-01-01T00:00:00Z;urlauth=authuser:internal:$g" NIL "imap://alice@localhost/INBOX/;uid=1;expire=2101-01-01T00:00:00+01:00;urlauth=authuser:internal:$h" "Subject: burl..."
b< OK ...

== what names no message or is no URL at all: NIL (RFC 4467 7)
b> URLFETCH "imap://alice@localhost/" "imap://alice@localhost/INBOX" "imap://alice@localhost/INBOX?ALL" "http://x/" "" /INBOX/;uid=1
b< * URLFETCH "imap://alice@localhost/" NIL "imap://alice@localhost/INBOX" NIL "imap://alice@localhost/INBOX?ALL" NIL "http://x/" NIL "" NIL "/INBOX/;uid=1" NIL
b< OK ...
a> GENURLAUTH "imap://alice@localhost/INBOX/;uid=99;urlauth=authuser" INTERNAL "imap://alice@localhost/INBOX/;uid=1/;section=9;urlauth=authuser" INTERNAL
a< * GENURLAUTH "imap://alice@localhost/INBOX/;uid=99;urlauth=authuser:internal:$i" "imap://alice@localhost/INBOX/;uid=1/;section=9;urlauth=authuser:internal:$j"
a< OK ...
b> URLFETCH "imap://alice@localhost/INBOX/;uid=99;urlauth=authuser:internal:$i" "imap://alice@localhost/INBOX/;uid=1/;section=9;urlauth=authuser:internal:$j"
b< * URLFETCH "imap://alice@localhost/INBOX/;uid=99;urlauth=authuser:internal:$i" NIL "imap://alice@localhost/INBOX/;uid=1/;section=9;urlauth=authuser:internal:$j" ""
b< OK ...

== GENURLAUTH only of one's own keys, and of what one may read
b> GENURLAUTH "imap://alice@localhost/INBOX/;uid=1;urlauth=authuser" INTERNAL
b< BAD The key table of that URL is not yours
mailbox secret 1 messages
b> GENURLAUTH "imap://bob@localhost/Other%20Users/alice/secret/;uid=1;urlauth=authuser" INTERNAL
b< BAD The URL names no mailbox
b> GENURLAUTH "imap://bob@localhost/Other%20Users/alice/none/;uid=1;urlauth=authuser" INTERNAL
b< BAD The URL names no mailbox
a> SETACL secret bob l
a< OK ...
b> GENURLAUTH "imap://bob@localhost/Other%20Users/alice/secret/;uid=1;urlauth=authuser" INTERNAL
b< BAD The URL names no mailbox
a> GENURLAUTH "imap://alice@elsewhere.example/INBOX/;uid=1;urlauth=authuser" INTERNAL
a< BAD ...
a> GENURLAUTH "imap://alice@localhost/INBOX/;uid=1;urlauth=authuser" XSAMPLE
a< BAD ...
a> GENURLAUTH "imap://alice@localhost/INBOX/;uid=1;urlauth=authuser:internal:91354a473744909de610943775f92038" INTERNAL
a< BAD ...
a> GENURLAUTH "imap://alice@localhost/INBOX/;uid=1;urlauth=everybody" INTERNAL
a< BAD ...
a> GENURLAUTH "imap://alice@localhost/INBOX;urlauth=authuser" INTERNAL
a< BAD ...
a> GENURLAUTH
a< BAD ...
a> URLFETCH
a< BAD ...

== the right of who made it counts when it is presented
a> SETACL secret bob lr
a< OK ...
b> GENURLAUTH "imap://bob@localhost/Other%20Users/alice/secret/;uid=1/;section=HEADER;urlauth=user+fred" INTERNAL
b< * GENURLAUTH "imap://bob@localhost/Other%20Users/alice/secret/;uid=1/;section=HEADER;urlauth=user+fred:internal:$k"
b< OK ...
f> URLFETCH "imap://bob@localhost/Other%20Users/alice/secret/;uid=1/;section=HEADER;urlauth=user+fred:internal:$k"
f< * URLFETCH ... "..."
f< OK ...
a> DELETEACL secret bob
a< OK ...
f> URLFETCH "imap://bob@localhost/Other%20Users/alice/secret/;uid=1/;section=HEADER;urlauth=user+fred:internal:$k"
f< * URLFETCH ... NIL
f< OK ...

== keys survive a kill; RESETKEY revokes, of one mailbox or all (RFC 4467, examples)
server kill
b> URLFETCH "imap://alice@localhost/INBOX/;uid=1/;section=1;urlauth=user+bob:internal:$u"
b< * URLFETCH ... "first"
b< OK ...
a> RESETKEY secret
a< OK [URLMECH INTERNAL] ...
b> URLFETCH "imap://alice@localhost/INBOX/;uid=1/;section=1;urlauth=user+bob:internal:$u"
b< * URLFETCH ... "first"
b< OK ...
a> RESETKEY INBOX INTERNAL
a< OK [URLMECH INTERNAL] ...
b> URLFETCH "imap://alice@localhost/INBOX/;uid=1/;section=1;urlauth=user+bob:internal:$u"
b< * URLFETCH ... NIL
b< OK ...
a> GENURLAUTH "imap://alice@localhost/INBOX/;uid=1/;section=1;urlauth=user+bob" INTERNAL
a< * GENURLAUTH "imap://alice@localhost/INBOX/;uid=1/;section=1;urlauth=user+bob:internal:$m"
a< OK ...
a> RESETKEY
a< OK All keys removed
b> URLFETCH "imap://alice@localhost/INBOX/;uid=1/;section=1;urlauth=user+bob:internal:$m"
b< * URLFETCH ... NIL
b< OK ...
server kill
b> URLFETCH "imap://alice@localhost/INBOX/;uid=1/;section=1;urlauth=user+bob:internal:$m"
b< * URLFETCH ... NIL
b< OK ...
a> RESETKEY nowhere
a< NO [NONEXISTENT] ...
b> RESETKEY "Other Users/alice/secret"
b< NO [NONEXISTENT] ...
a> RESETKEY INBOX XSAMPLE
a< NO ...

== a mailbox that is made again is another
a> CREATE again
a< OK ...
a> APPEND again {19+}
a>= "Subject: a\r\n\r\nold\r\n\r\n"
a< OK ...
a> GENURLAUTH "imap://alice@localhost/again/;uid=1;urlauth=authuser" INTERNAL
a< * GENURLAUTH "imap://alice@localhost/again/;uid=1;urlauth=authuser:internal:$n"
a< OK ...
a> DELETE again
a< OK ...
a> CREATE again
a< OK ...
a> APPEND again {19+}
a>= "Subject: b\r\n\r\nnew\r\n\r\n"
a< OK ...
b> URLFETCH "imap://alice@localhost/again/;uid=1;urlauth=authuser:internal:$n"
b< * URLFETCH ... NIL
b< OK ...
