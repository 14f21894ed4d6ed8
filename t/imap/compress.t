#!t/transcript
# COMPRESS=DEFLATE (RFC 4978): above TLS, while idle, with literals, and what is no valid stream
covers COMPRESS=DEFLATE
mailbox INBOX 5 messages
client r raw
client s raw %IMAPS%

== not before login
r<< * OK ...
r> COMPRESS DEFLATE
r< BAD ...
r> CAPABILITY
r! * CAPABILITY ... COMPRESS=DEFLATE ...
r< OK ...

== out of grammar and unknown: nothing is switched on
a> COMPRESS
a< BAD ...
a> COMPRESS LZW
a< BAD ...
a> COMPRESS DEFLATE x
a< BAD ...
a> NOOP
a< OK ...

== everything after the OK is compressed
a> COMPRESS DEFLATE
a< OK ...
a deflate
a> NOOP
a< OK ...
a> CAPABILITY
a< * CAPABILITY ...
a! * CAPABILITY ... COMPRESS=DEFLATE ...
a< OK ...
a> SELECT INBOX
a< * 5 EXISTS
a< OK ...
a> FETCH 1:* (UID FLAGS BODY.PEEK[])
a< * 1 FETCH (UID 1 FLAGS (...) BODY[] ...)
a< * 5 FETCH (UID 5 FLAGS (...) BODY[] ...)
a< OK ...

== a second time: BAD (RFC 4978 3)
a> COMPRESS DEFLATE
a< BAD [COMPRESSIONACTIVE] ...

== literals of both kinds
a> APPEND INBOX {21}
a< + ...
a>= "Subject: sync\r\n"
a>>
a>> body
a< * 6 EXISTS
a< OK [APPENDUID ...] ...
a> APPEND INBOX {21+}
a>= "Subject: plus\r\n"
a>>
a>> body
a< * 7 EXISTS
a< OK [APPENDUID ...] ...
a> FETCH 7 BODY.PEEK[]
a< * 7 FETCH (BODY[] ...)
a< OK ...

== octet by octet, flushed the other way
a deflate partial
cut 1 bytes
a> NOOP
a< OK ...
a> FETCH 1 (UID)
a< * 1 FETCH (UID 1)
a< OK ...
cut 0 bytes

== idle for so long that the state is given up; the window is still the client's
a> FETCH 2 (UID)
a< * 2 FETCH (UID 2)
a< OK ...
sleep 2.5
a> FETCH 2 (UID)
a< * 2 FETCH (UID 2)
a< OK ...
a deflate sync
a> FETCH 3 (UID)
a< * 3 FETCH (UID 3)
a< OK ...
sleep 2.5
a> FETCH 3 (UID)
a< * 3 FETCH (UID 3)
a< OK ...

== news in IDLE, again and again
a> IDLE
a< + ...
b> SELECT INBOX
b< OK ...
b> STORE 1 +FLAGS (\Flagged)
b< OK ...
a<< * 1 FETCH (FLAGS (\Flagged ...))
sleep 2.5
b> STORE 1 -FLAGS (\Flagged)
b< OK ...
a<< * 1 FETCH (FLAGS (...))
a>> DONE
a< OK ...

== a large window survives too
a> APPEND INBOX {60021+}
a>= "Subject: large\r\n\r\n"
a>= "0123456789 the quick brown fox\r\n" x 1875
a>> end
a< OK [APPENDUID ...] ...
sleep 2.5
a> FETCH 8 (RFC822.SIZE BODY.PEEK[HEADER])
a< * 8 FETCH (RFC822.SIZE 60021 BODY[HEADER] ...)
a< OK ...

== a bomb is no more than its octets: the line is too long, the session goes on
a>= "x" x 3000000
a>>
a< * BAD ...
a> NOOP
a< OK ...

== over TLS
s tls
s<< * OK ...
s> LOGIN bob bob-pw
s< OK ...
s> COMPRESS DEFLATE
s< OK ...
s deflate
s> SELECT INBOX
s< OK ...
s> LOGOUT
s< * BYE ...
s< OK ...
s< disconnect

== what is no valid stream ends the connection, and nothing else
b> COMPRESS DEFLATE
b< OK ...
b deflate
b> NOOP
b< OK ...
b deflate off
b>= "\xff\xff\xff\xff"
b< disconnect
a> NOOP
a< OK ...
