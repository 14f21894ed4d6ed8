#!t/transcript
# REPLACE and UID REPLACE (RFC 8508)
config maxmessagesize: 100000
covers REPLACE
mailbox Drafts 4 messages
a> CREATE Sent
a< OK ...
a> CREATE Other
a< OK ...

== only with a mailbox selected, and one that may be changed
a> REPLACE 1 Drafts {10}
a< BAD ...
a> EXAMINE Drafts
a< OK ...
a> REPLACE 1 Drafts {10}
a< NO [READ-ONLY] ...
a> SELECT Drafts
a< * 4 EXISTS
a< OK ...

== a draft gives way to its next version (RFC 8508 3.2)
client b as alice
b> SELECT Drafts
b< OK ...
a> REPLACE 4 Drafts (\Seen \Draft) {312}
a< + ...
a>= "Date: Thu, 1 Jan 2015 00:05:00 -0500 (EST)\r\nFrom: Fritz Schmidt <fritz.ze@example.org>\r\nSubject: happy new year !!\r\nTo: miss.mitzy@example.org\r\nMessage-Id: <B238822388-0100000@example.org>\r\nMIME-Version: 1.0\r\nContent-Type: TEXT/PLAIN; CHARSET=US-ASCII\r\n\r\nJust saw the best fireworks show. Wish you were here.\r\n\r\n\r\n"
a< * OK [APPENDUID $v 5] Replacement message ready
a< * 4 EXISTS
a< * 4 EXPUNGE
a< OK REPLACE completed
a> FETCH 4 (UID FLAGS RFC822.SIZE)
a< * 4 FETCH (UID 5 FLAGS (\Seen \Draft ...) RFC822.SIZE 312)
a< OK ...
b> NOOP
b< * 4 EXPUNGE
b< * 4 EXISTS
b< OK ...

== UID REPLACE; nothing is inherited from the old one (RFC 8508 3.3, 1)
a> UID STORE 5 +FLAGS (kw \Flagged)
a< * 4 FETCH ...
a< OK ...
a> UID REPLACE 5 Drafts () "01-Jan-2015 00:06:00 -0500" {17+}
a>= "Subject: s\r\n\r\nx\r\n\r\n"
a< * OK [APPENDUID $v 6] Replacement message ready
a< * 4 EXPUNGE
a< OK ...
a> UID FETCH 6 (FLAGS INTERNALDATE)
a< * 4 FETCH (UID 6 FLAGS (\Recent) INTERNALDATE " 1-Jan-2015 05:06:00 +0000")
a< OK ...

== with CATENATE (RFC 8508 4.2)
a> APPEND Drafts (\Seen \Draft) {173+}
a>= "From: Fritz Schmidt <fritz.ze@example.org>\r\nMessage-ID: <B238822388-0100003@example.org>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\nHere is picture from the fireworks\r\n\r\n"
a< OK [APPENDUID $v 7] ...
a> UID REPLACE 7 Drafts CATENATE (TEXT {71}
a< + ...
a>= "To: Mitzy <miss.mitzy@example.org>\r\nSubject: My view of the fireworks\r\n URL \"/Drafts/;UID=7\")\r\n"
a< * OK [APPENDUID $v 8] Replacement message ready
a< * 5 EXPUNGE
a< OK ...
a> UID FETCH 7:8 RFC822.SIZE
a< * 5 FETCH (UID 8 RFC822.SIZE 244)
a< OK ...

== into another mailbox: Drafts to Sent
a> UID REPLACE 8 Sent (\Seen sent) {17+}
a>= "Subject: s\r\n\r\nx\r\n\r\n"
a< * OK [APPENDUID $w 1] Replacement message ready
a< * 5 EXPUNGE
a< OK ...
a> STATUS Sent (MESSAGES UIDNEXT)
a< * STATUS Sent (MESSAGES 1 UIDNEXT 2)
a< OK ...

== "*" is the last one; large messages; HIGHESTMODSEQ for who keeps modseqs (RFC 8508 4.5)
a> ENABLE CONDSTORE
a< * OK [HIGHESTMODSEQ ...
a< * ENABLED CONDSTORE
a< OK ...
a> REPLACE * Drafts (big) {90000+}
a>= "Subject: large\r\n\r\n"
a>= "0123456789abcdef" x 5623
a>= "0123456789abc\r\r\n"
a< * OK [APPENDUID $v 9] Replacement message ready
a< * 4 EXPUNGE
a< OK [HIGHESTMODSEQ ...] ...
a> UID REPLACE 9 Sent (big) {90000+}
a>= "Subject: large\r\n\r\n"
a>= "0123456789abcdef" x 5623
a>= "0123456789abc\r\r\n"
a< * OK [APPENDUID $w 2] Replacement message ready
a< * 4 EXPUNGE
a! * 4 EXISTS
a< OK [HIGHESTMODSEQ ...] ...

== errors: nothing is replaced
a> UID REPLACE 77 Drafts {17+}
a>= "Subject: s\r\n\r\nx\r\n\r\n"
a< NO No such message
a> REPLACE 4 Drafts {17+}
a>= "Subject: s\r\n\r\nx\r\n\r\n"
a< BAD ...
a> REPLACE 0 Drafts {10}
a< BAD ...
a> REPLACE 1:2 Drafts {10}
a< BAD ...
a> REPLACE 1 Drafts "x"
a< BAD ...
a> REPLACE 1
a< BAD ...
a> REPLACE 1 nowhere {10}
a< NO [TRYCREATE] ...
a> REPLACE 1 Drafts {100001}
a< NO [TOOBIG] ...
a> REPLACE 1 Drafts {17+}
a>= "Subject: s\r\n\r\nx\r\n {17+}\r\nSubject: s\r\n\r\nx\r\n\r\n"
a< BAD ...
a> REPLACE 1 Drafts CATENATE (URL "/Drafts/;UID=77")
a< NO [BADURL /Drafts/;UID=77] ...
a> REPLACE 1 Drafts {0}
a< NO The message is empty
a> FETCH 1:* UID
a< * 1 FETCH (UID 1)
a< * 2 FETCH (UID 2)
a< * 3 FETCH (UID 3)
a< OK ...

== rights: t and e on the selected mailbox, i on the other (RFC 8508 4.1)
client c as bob
c> SELECT INBOX
c< OK ...
a> SETACL Drafts bob lrste
a< OK ...
c> SELECT "Other Users/alice/Drafts"
c< OK ...
c> REPLACE 1 "Other Users/alice/Drafts" {10}
c< NO [NOPERM] ...
a> SETACL Drafts bob lrswi
a< OK ...
c> REPLACE 1 "Other Users/alice/Drafts" {17+}
c>= "Subject: s\r\n\r\nx\r\n\r\n"
c< NO [NOPERM] ...
a> SETACL Drafts bob lrstei
a< OK ...
c> REPLACE 1 "Other Users/alice/Drafts" (\Deleted \Seen kw) {17+}
c>= "Subject: s\r\n\r\nx\r\n\r\n"
c< * OK [APPENDUID $v 10] ...
c< * 1 EXPUNGE
c< OK ...
c> FETCH 3 (UID FLAGS)
c< * 3 FETCH (UID 10 FLAGS (\Deleted \Seen ...))
c< OK ...
a> NOOP
a< * 1 EXPUNGE
a< OK ...
a> UID FETCH 10 FLAGS
a< * 3 FETCH (UID 10 FLAGS (\Deleted ...) ...)
a! * 3 FETCH (... FLAGS (... \Seen ...) ...)
a< OK ...

== replaced elsewhere meanwhile
client d as alice
d> SELECT Drafts
d< OK ...
a> UID REPLACE 2 Drafts {17}
a< + ...
d> UID REPLACE 2 Sent {17+}
d>= "Subject: s\r\n\r\nx\r\n\r\n"
d< * OK [APPENDUID $w 3] ...
d< OK ...
a>= "Subject: s\r\n\r\nx\r\n\r\n"
a< * 1 EXPUNGE
a< NO [EXPUNGEISSUED] ...

== after a kill: each of them once
server kill
a> SELECT Drafts
a< * 2 EXISTS
a< OK ...
a> UID SEARCH ALL
a< * SEARCH 3 10
a< OK ...
a> STATUS Sent (MESSAGES UIDNEXT)
a< * STATUS Sent (MESSAGES 3 UIDNEXT 4)
a< OK ...
