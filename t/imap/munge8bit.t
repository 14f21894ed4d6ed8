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

== with reject8bit it is refused (and so not changed)
q<< * OK ...
q>> a LOGIN alice alice-pw
q<< a OK ...
q>= "b APPEND INBOX {22+}\r\nSubject: gr\xc3\xbcn\r\n\r\nbody\r\n"
q<< b NO ...
q>= "c APPEND INBOX {24+}\r\nSubject: gruen\r\n\r\nb\xc3\xa4h\r\n\r\n"
q<< c OK ...

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
