#!t/transcript
# POP3's AUTH (RFC 5034): its examples, and what it says is to be refused
config allowplaintext: no
config sasl_mech_list: PLAIN LOGIN SCRAM-SHA-256 CRAM-MD5
client p pop3
client q pop3
client e pop3
client f pop3
client g pop3

== example 1: PLAIN is there once TLS is, with an initial response; CAPA tells of SASL after log-in too (3)
p< +OK localhost Cyrd ...
p> CAPA
p< +OK List of capabilities follows
p< SASL SCRAM-SHA-256 CRAM-MD5
p< STLS
p< EXPIRE NEVER
p< TOP
p< UIDL
p< PIPELINING
p< RESP-CODES
p< AUTH-RESP-CODE
p< IMPLEMENTATION ...
p< .
p> AUTH PLAIN AGFsaWNlAGFsaWNlLXB3
p< -ERR No such mechanism
p> USER alice
p< -ERR [AUTH] USER only under TLS
p> STLS
p< +OK Begin TLS negotiation now
p tls
p> CAPA
p< +OK List of capabilities follows
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
p> AUTH
p< +OK ...
p< PLAIN
p< LOGIN
p< SCRAM-SHA-256-PLUS
p< SCRAM-SHA-256
p< CRAM-MD5
p< .
p> AUTH PLAIN AGFsaWNlAGFsaWNlLXB3
p< +OK Mailbox locked and ready ...
p> CAPA
p< +OK List of capabilities follows
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

== no second AUTH after one that succeeded (4)
p> AUTH PLAIN AGFsaWNlAGFsaWNlLXB3
p< -ERR Already logged in
p> AUTH PLAIN
p< -ERR Already logged in
p> AUTH
p< -ERR Already logged in
p> STAT
p< +OK 0 0
p> QUIT
p< +OK Bye

== example 2: without initial response, after an empty challenge, which is "+ " and nothing more
q< +OK ...
q> STLS
q< +OK ...
q tls
q> auth plain
q< + ...
q> AGFsaWNlAGFsaWNlLXB3
q< +OK Mailbox locked and ready ...
q> QUIT
q< +OK Bye
run perl -MIO::Socket -e '$s=IO::Socket::INET->new("127.0.0.1:$ENV{POP3}"); <$s>; print $s "AUTH SCRAM-SHA-256\r\n"; $_=<$s>; exit !($_ eq "+ \r\n")'

== example 3: a mechanism that begins with a challenge
run perl -MIO::Socket -MMIME::Base64 -MDigest::MD5=md5 -e '$s=IO::Socket::INET->new("127.0.0.1:$ENV{POP3}"); <$s>; print $s "AUTH CRAM-MD5\r\n"; $_=<$s>; /^\+ (\S+)\r\n/ or die $_; $k="alice-pw".("\0" x 56); $d=unpack "H*", md5(($k ^ ("\x5c" x 64)), md5(($k ^ ("\x36" x 64)), decode_base64($1))); print $s encode_base64("alice $d", ""), "\r\nQUIT\r\n"; $_=<$s>; exit !/^\+OK Mailbox locked/'

== it takes no initial response, not even an empty one
e< +OK ...
e> AUTH CRAM-MD5 YWxpY2U=
e< -ERR Bad authentication exchange
e> AUTH CRAM-MD5 =
e< -ERR Bad authentication exchange
e> AUTH NONSENSE
e< -ERR No such mechanism
e> AUTH CRAM-MD5-AND-MUCH-MORE-THAN-THERE-IS
e< -ERR ...

== base64 is strict; each failure leaves the session as it was (4)
e> STLS
e< +OK ...
e tls
e> AUTH PLAIN =AAA
e< -ERR Bad base64
e> AUTH PLAIN AAA=BBB
e< -ERR Bad base64
e> AUTH PLAIN AGFsaWNlAGFsaWNlLXB3=
e< -ERR Bad base64
e> AUTH PLAIN AGFsaWNlAGFsaWNlLXB3AA=
e< -ERR Bad base64
e> AUTH PLAIN AGFsaWNl.AGFsaWNlLXB3
e< -ERR Bad base64
e> AUTH PLAIN AGFsaWNlAGFsaWNlLXB3 AAAA
e< -ERR Bad base64
e> AUTH PLAIN
e< + ...
e> =AAA
e< -ERR Bad base64
e> AUTH PLAIN
e< + ...
e> AGFsaWNlAGFsaWNlLXB3*
e< -ERR Bad base64
e> AUTH PLAIN
e< + ...
e> *
e< -ERR Authentication cancelled
e> AUTH PLAIN =
e< -ERR ...
e> AUTH PLAIN AGFsaWNlAHdyb25n
e< -ERR [AUTH] Invalid login
e> AUTH LOGIN
e< + VXNlcm5hbWU6
e> YWxpY2U=
e< + UGFzc3dvcmQ6
e> YWxpY2UtcHc=
e< +OK Mailbox locked and ready ...
e> QUIT
e< +OK Bye

== an authorization identity that cannot be prepared (RFC 4013), and one that is not his
f< +OK ...
f> STLS
f< +OK ...
f tls
f> AUTH PLAIN YQdiAGFsaWNlAGFsaWNlLXB3
f< -ERR ...
f> AUTH PLAIN Ym9iAGFsaWNlAGFsaWNlLXB3
f< -ERR [AUTH] Invalid login

== a response longer than a command may be is heard whole; the limit on commands is for them
f> AUTH PLAIN
f< + ...
f>= "QUFB" x 3000
f>= "\r\n"
f< -ERR ...
f> NOOP
f< +OK ...
f>= "NOOP "
f>= "x" x 600
f>= "\r\n"
f< -ERR Line too long
f> QUIT
f< +OK Bye
