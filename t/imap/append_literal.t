#!t/transcript
# APPEND's literals: streamed, refused before or while they come
config maxmessagesize: 3000000
covers LITERAL+
a> SELECT INBOX
a< OK ...

== a synchronizing literal is refused before it is sent
a> APPEND nowhere {10}
a< NO [TRYCREATE] ...
a> APPEND "Other Users/bob/x" {10}
a< NO [NONEXISTENT] ...
a> APPEND INBOX {3000001}
a< NO [TOOBIG] ...
a> APPEND INBOX (\Nonsense) {10}
a< BAD ...
a> NOOP
a< OK ...

== a non-synchronizing one is swallowed, then refused
a> APPEND nowhere {10+}
a>> 0123456789
a< NO [TRYCREATE] ...
a> APPEND INBOX {3000001+}
a>= "x" x 3000001
a>> 
a< NO [TOOBIG] ...
a> NOOP
a< OK ...

== messages of all sizes arrive whole
a> APPEND INBOX (\Seen) {27}
a< + ...
a>= "Subject: one\r\n\r\nThe body.\r\n\r\n"
a< OK [APPENDUID $v 1] ...
a> APPEND {5+}
a>> INBOX (kw) "01-Feb-2024 03:04:05 +0100" {1000000+}
a>= "Subject: two\r\n\r\n"
a>= "0123456789abcde\r" x 60000
a>= "0123456789abcdef" x 2499
a>> 
a< * 2 EXISTS
a< OK [APPENDUID $v 2] ...
a> FETCH 1:2 (RFC822.SIZE FLAGS INTERNALDATE)
a< * 1 FETCH (RFC822.SIZE 27 FLAGS (\Seen ...) ...)
a< * 2 FETCH (RFC822.SIZE 1000000 FLAGS (kw ...) INTERNALDATE " 1-Feb-2024 02:04:05 +0000")
a< OK ...

== NUL only in a literal8
a> APPEND INBOX {20}
a< + ...
a>= "Subject: n\r\n\r\na\x00b\r\n\r\n\r\n"
a< NO Message contains NUL characters
a> NOOP
a< OK ...

== cut into single octets, with another command behind it
cut 1 bytes
a> APPEND INBOX {16+}
a>> Subject: c  cc
a>> 
a< OK ...
a> NOOP
a< OK ...
cut 0 bytes

== a hang-up in the middle leaves nothing
client b as alice
b> APPEND INBOX {100}
b< + ...
b>> half of it
b close
a> NOOP
a! * 4 EXISTS
a< OK ...

== what the client makes up is refused
a> APPEND INBOX {#0}
a< BAD ...
a> APPEND INBOX {0}
a< NO ...
a> APPEND INBOX
a< BAD ...
a> APPEND INBOX "quoted"
a< BAD ...
