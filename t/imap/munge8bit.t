#!t/transcript
# munge8bit and reject8bit for messages that come by IMAP (RFC 9755 4); LMTP: t/lmtp
config munge8bit: yes
config pop3_reject8bit: yes
service pop3 cmd="imapd" listen="127.0.0.1:%POP3%"
client q raw %POP3%
a> SELECT INBOX
a< OK ...

== octets above 127 in the header become X, also where it ends with the message; those in the body stay
a> APPEND INBOX {34+}
a>= "Subject: gr\xc3\xbcn\r\n\xff \xe9t\xe9\r\n\r\nb\xc3\xa4h\r\n\xff\r\n\r\n"
a< * 1 EXISTS
a< OK ...
a> FETCH 1 BODY.PEEK[]
a< * 1 FETCH (BODY[] /Subject: grXXn\r\nX XtX\r\n\r\nb\xc3\xa4h\r\n\xff\r\n/)
a< OK ...
a> APPEND INBOX {16+}
a>= "Subject: gr\xc3\xbcn\r\n\r\n"
a< * 2 EXISTS
a< OK ...
a> FETCH 2 BODY.PEEK[]
a< * 2 FETCH (BODY[] /Subject: grXXn\r\n/)
a< OK ...

== however it is cut; each of several messages; CATENATE: the first part is the header, what comes after it is not
cut 3 bytes
a> APPEND INBOX {21+}
a>= "X: \xe9\r\n\r\n\xe9\r\n\r\n\xe9\r\n\r\n\xe9\r\n {9+}\r\nX: \xe8\r\n\r\n\xe8 CATENATE (TEXT {8+}\r\nX: \xe7\r\n\r\n TEXT {4+}\r\n\r\n\xe7\xe7)\r\n"
a< * 5 EXISTS
a< OK ...
cut 0 bytes
a> FETCH 3:5 BODY.PEEK[]
a< * 3 FETCH (BODY[] /X: X\r\n\r\n\xe9\r\n\r\n\xe9\r\n\r\n\xe9\r\n/)
a< * 4 FETCH (BODY[] /X: X\r\n\r\n\xe8/)
a< * 5 FETCH (BODY[] /X: X\r\n\r\n\r\n\xe7\xe7/)
a< OK ...
a> UID REPLACE 5 INBOX {8+}
a>= "X: \xe6\r\n\r\n\r\n"
a< * 5 EXPUNGE
a< OK ...
a> FETCH 5 BODY.PEEK[]
a< * 5 FETCH (BODY[] /X: X\r\n\r\n/)
a< OK ...

== CATENATE: the header may be cut in pieces, empty lines too, or come from another message; each message begins anew
a> APPEND INBOX CATENATE (TEXT {6+}
a>= "A: \xe9\r\n TEXT {5+}\r\nB: \xe8\n TEXT {6+}\r\n\r\n\r\n\xe7\r TEXT {3+}\r\n\n\r\n) CATENATE (TEXT {2+}\r\nC: TEXT {9+}\r\n\r\n\xe6\r\n\r\n\xe5\xe4) {8+}\r\nD: \xe3\r\n\r\n\r\n"
a< * 8 EXISTS
a< OK ...
a> FETCH 6:8 BODY.PEEK[]
a< * 6 FETCH (BODY[] /A: X\r\nB: X\n\r\n\r\n\xe7\r\n\r\n/)
a< * 7 FETCH (BODY[] /C:\r\nX\r\n\r\n\xe5\xe4/)
a< * 8 FETCH (BODY[] /D: X\r\n\r\n/)
a< OK ...
a> APPEND INBOX CATENATE (TEXT {3+}
a>= "E:  URL \"/INBOX/;UID=1/;section=TEXT\" TEXT {6+}\r\n\r\n\r\n\xe2\xe1)\r\n"
a< * 9 EXISTS
a< OK ...
a> FETCH 9 BODY.PEEK[]
a< * 9 FETCH (BODY[] /E: bXXh\r\nX\r\n\r\n\r\n\xe2\xe1/)
a< OK ...
a> UID REPLACE * INBOX CATENATE (TEXT {3+}
a>= "F:  TEXT {4+}\r\n\xe0\r\n\r)\r\n"
a< * 9 EXPUNGE
a< OK ...
a> FETCH 9 BODY.PEEK[]
a< * 9 FETCH (BODY[] /F: X\r\n\r/)
a< OK ...

== with reject8bit it is refused (and so not changed)
q<< * OK ...
q>> a LOGIN alice alice-pw
q<< a OK ...
q>= "b APPEND INBOX {22+}\r\nSubject: gr\xc3\xbcn\r\n\r\nbody\r\n"
q<< b NO ...
q>= "c APPEND INBOX {24+}\r\nSubject: gruen\r\n\r\nb\xc3\xa4h\r\n\r\n"
q<< c OK ...
q>= "d APPEND INBOX CATENATE (TEXT {3+}\r\nA:  TEXT {6+}\r\n\xe9\r\n\r\nx)\r\n"
q<< d NO The header ...
q>= "e APPEND INBOX {8+}\r\nA: b\r\n\r\n CATENATE (URL \"/INBOX/;UID=3/;section=TEXT\" TEXT {5+}\r\nx\r\n\r\n)\r\n"
q<< e NO The header ...
q>= "f APPEND INBOX CATENATE (TEXT {3+}\r\nA:  TEXT {6+}\r\nb\r\n\r\n\xe9)\r\n"
q<< f OK ...
q>= "g SELECT INBOX\r\n"
q<< * 11 EXISTS
q<< g OK ...
q>= "h UID REPLACE * INBOX CATENATE (TEXT {3+}\r\nA:  TEXT {6+}\r\n\xe9\r\n\r\nx)\r\n"
q<< h NO The header ...

== who has enabled UTF8=ACCEPT sends what is meant (RFC 9755 4)
a> ENABLE UTF8=ACCEPT
a< * ENABLED UTF8=ACCEPT
a< OK ...
a> APPEND INBOX {16+}
a>= "Subject: gr\xc3\xbcn\r\n\r\n"
a< OK [APPENDUID $v $u] ...
a> UID FETCH $u BODY.PEEK[]
a< * $n FETCH (UID $u BODY[] /Subject: gr\xc3\xbcn\r\n/)
a< OK ...
