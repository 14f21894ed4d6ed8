#!t/transcript
# POP3 (RFC 1939), CAPA (RFC 2449), AUTH (RFC 5034), STLS (RFC 2595)
client p pop3
client q pop3
client r pop3
a> APPEND INBOX {55+}
a>= "From: a@x\r\nSubject: one\r\n\r\nline one\r\n.dot\r\n..two\r\nend\r\n\r\n"
a< OK [APPENDUID $v 1] ...
a> APPEND INBOX {30+}
a>= "Subject: two\r\n\r\n.\r\nno line end\r\n"
a< OK ...
a> APPEND INBOX {256022+}
a>= "Subject: large\r\n\r\n"
a>= "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n" x 4000
a>= ".x\r\n\r\n"
a< OK ...

== before the log-in
p< +OK localhost Cyrd ...
p> CAPA
p< +OK ...
p< SASL ...
p< STLS
p< EXPIRE NEVER
p< TOP
p< UIDL
p< PIPELINING
p< RESP-CODES
p< AUTH-RESP-CODE
p< USER
p< IMPLEMENTATION ...
p< .
p> STAT
p< -ERR Log in first
p> PASS x
p< -ERR Say USER first
p> NONSENSE
p< -ERR Unknown command
p> USER
p< -ERR ...
p> NOOP x
p< -ERR ...
p> USER alice
p< +OK ...
p> PASS wrong
p< -ERR [AUTH] Invalid login
p> USER nobody
p< +OK ...
p> PASS wrong
p< -ERR [AUTH] Invalid login

== log-in, sizes, unique ids as Cyrus forms them
p> USER alice
p< +OK ...
p> PASS alice-pw
p< +OK Mailbox locked and ready SESSIONID=...
p> STAT
p< +OK 3 256107
p> LIST
p< +OK 3 messages (256107 octets)
p< 1 55
p< 2 30
p< 3 256022
p< .
p> LIST 2
p< +OK 2 30
p> LIST 4
p< -ERR ...
p> LIST 0
p< -ERR ...
p> LIST x
p< -ERR ...
p> UIDL 1
p< +OK 1 $v.1
p> UIDL
p< +OK ...
p< 1 $v.1
p< 2 $v.2
p< 3 $v.3
p< .
p> LAST
p< +OK 0
p> CAPA
p< +OK ...
p< SASL ...
p< EXPIRE NEVER
p< TOP
p< UIDL
p< PIPELINING
p< RESP-CODES
p< AUTH-RESP-CODE
p< USER
p< IMPLEMENTATION ...
p< .
p> USER bob
p< -ERR Already logged in

== dots are doubled at the beginning of lines, the last line gets an end
p> RETR 1
p< +OK 55 octets
p< From: a@x
p< Subject: one
p<
p< line one
p< ..dot
p< ...two
p< end
p< .
p> RETR 2
p< +OK 30 octets
p< Subject: two
p<
p< ..
p< no line end
p< .
p> LAST
p< +OK 2

== TOP
p> TOP 1 0
p< +OK ...
p< From: a@x
p< Subject: one
p<
p< .
p> TOP 1 2
p< +OK ...
p< From: a@x
p< Subject: one
p<
p< line one
p< ..dot
p< .
p> TOP 3 1
p< +OK ...
p< Subject: large
p<
p< 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd
p< .
p> TOP 1
p< -ERR ...
p> TOP 9 1
p< -ERR ...

== a large message comes whole
run perl -MIO::Socket -e '$s=IO::Socket::INET->new("127.0.0.1:$ENV{POP3}"); print $s "USER bob\r\nPASS bob-pw\r\nQUIT\r\n"; local $/; $_=<$s>; exit !/\+OK Mailbox locked.*\+OK Bye/s'
run perl -MIO::Socket -e '$s=IO::Socket::INET->new("127.0.0.1:$ENV{POP3}"); print $s "USER alice\r\nPASS alice-pw\r\nQUIT\r\n"; local $/; $_=<$s>; exit !/-ERR \[IN-USE\].*\+OK Bye/s'

== arguments that are missing, too many, or out of range (RFC 1939 3, 5, 7)
p> STAT x
p< -ERR ...
p> RETR
p< -ERR ...
p> RETR 0
p< -ERR ...
p> RETR 4
p< -ERR ...
p> RETR -1
p< -ERR ...
p> RETR 4294967297
p< -ERR ...
p> RETR 1 2
p< -ERR ...
p> DELE
p< -ERR ...
p> DELE 4
p< -ERR ...
p> DELE all
p< -ERR ...
p> TOP 1 -1
p< -ERR ...
p> TOP 1 x
p< -ERR ...
p> TOP 1 1 1
p< -ERR ...
p> UIDL 4
p< -ERR ...
p> UIDL x
p< -ERR ...
p> RSET x
p< -ERR ...
p> NOOP x
p< -ERR ...
p> QUIT now
p< -ERR ...
p> CAPA x
p< -ERR ...
p> LAST x
p< -ERR ...
p> APOP alice c4c9334bac560ecc979e58001b3e22fb
p< -ERR Unknown command
p> PASS x
p< -ERR Already logged in
p> STLS
p< -ERR Already logged in
p> noop
p< +OK ...
p> rEtR 2
p< +OK 30 octets
p< Subject: two
p<
p< ..
p< no line end
p< .

== DELE is undone by RSET, and by hanging up
p> DELE 1
p< +OK Message 1 deleted
p> DELE 1
p< -ERR Message 1 is deleted
p> RETR 1
p< -ERR Message 1 is deleted
p> LIST
p< +OK 2 messages (256052 octets)
p< 2 30
p< 3 256022
p< .
p> LIST 1
p< -ERR Message 1 is deleted
p> UIDL 1
p< -ERR Message 1 is deleted
p> TOP 1 0
p< -ERR Message 1 is deleted
p> STAT
p< +OK 2 256052
p> UIDL
p< +OK ...
p< 2 $v.2
p< 3 $v.3
p< .
p> RSET
p< +OK 3 messages (256107 octets)
p> DELE 2
p< +OK ...
p close
sleep 0.3
a> STATUS INBOX (MESSAGES)
a< * STATUS INBOX (MESSAGES 3)
a< OK ...

== QUIT deletes, durably; RETR whole
q< +OK ...
q> USER alice
q< +OK ...
q> PASS alice-pw
q< +OK ...
q> DELE 1
q< +OK ...
q> DELE 2
q< +OK ...
q> QUIT
q< +OK Bye
q< disconnect
server kill
a> SELECT INBOX
a< * 1 EXISTS
a< OK ...
a> UID SEARCH ALL
a< * SEARCH 3
a< OK ...
run perl -MIO::Socket -e '$s=IO::Socket::INET->new("127.0.0.1:$ENV{POP3}"); print $s "USER alice\r\nPASS alice-pw\r\nRETR 1\r\nQUIT\r\n"; local $/; $_=<$s>; $l="0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n" x 4000; exit !/\+OK 256022 octets\r\nSubject: large\r\n\r\n\Q$l\E\.\.x\r\n\.\r\n\+OK Bye\r\n\z/s'

== AUTH (RFC 5034): with and without initial response, cancelled, broken
r< +OK ...
r> AUTH
r< +OK ...
r< ...
r< ...
r< ...
r< ...
r< .
r> AUTH PLAIN
r< + ...
r> *
r< -ERR Authentication cancelled
r> AUTH NONSENSE
r< -ERR No such mechanism
r> AUTH PLAIN !!!
r< -ERR Bad base64
r> AUTH PLAIN AGFsaWNlAHdyb25n
r< -ERR [AUTH] Invalid login
r> AUTH PLAIN
r< + ...
r> AGFsaWNlAGFsaWNlLXB3
r< +OK Mailbox locked and ready ...
r> STAT
r< +OK 1 256022

r> QUIT
r< +OK Bye

== STLS: what was pipelined behind it in clear is not heard
run perl -MIO::Socket -e '$s=IO::Socket::INET->new("127.0.0.1:$ENV{POP3}"); <$s>; print $s "STLS\r\nUSER alice\r\n"; $_=<$s>; exit !/^\+OK/'
client s pop3
s< +OK ...
s> STLS
s< +OK ...
s tls
s> CAPA
s< +OK ...
s< SASL ...
s< EXPIRE NEVER
s< TOP
s< UIDL
s< PIPELINING
s< RESP-CODES
s< AUTH-RESP-CODE
s< USER
s< IMPLEMENTATION ...
s< .
s> STLS
s< -ERR TLS is active already
s> USER alice
s< +OK ...
s> PASS alice-pw
s< +OK ...
s> RETR 1
s< +OK 256022 octets
s< Subject: large

== hostile lines
run perl -MIO::Socket -e '$s=IO::Socket::INET->new("127.0.0.1:$ENV{POP3}"); print $s "x" x 100000, "\r\nNOOP\r\nUSER a\0b\r\nQUIT\r\n"; local $/; $_=<$s>; exit !/-ERR Line too long\r\n\+OK Nothing done\r\n-ERR A command line has no CR or NUL in it\r\n\+OK Bye/'
run perl -MIO::Socket -e '$s=IO::Socket::INET->new("127.0.0.1:$ENV{POP3}"); print $s "FOO\r\n" x 100; local $/; $_=<$s>; exit !/Too many errors\r\n\z/'
