#!t/transcript
# What bad input gets: BAD that says what was wrong, and the session goes on.
client r raw
r<< * OK [CAPABILITY ...] localhost Cyrd ... ready

== nonsense gets BAD with its own tag
r> FROBNICATE
r< BAD Unknown command
r>> justoneword
r<< justoneword BAD ...
r>>
r<< * BAD ...
r>= "\x00\x01 NOOP\r\n"
r<< * BAD ...
r> NOOP
r< OK ...

== NUL, bare CR, bare LF (RFC 9051 2.2)
r>= "n1 LOGIN al\x00ice x\r\n"
r<< n1 BAD NUL in the command
r>= "n2 NO\rOP\r\n"
r<< n2 BAD CR without LF in the command
r>= "n3 NOOP\n"
r<< n3 BAD Line ends with LF, not CRLF
r> NOOP
r< OK ...

== wrong state, wrong arguments
r> SELECT INBOX
r< BAD Log in first
r> NOOP now
r< BAD ...
r> LOGIN alice
r< BAD ...
r> LOGIN "alice
r< BAD Quoted string is not closed at the end of the line
r> UID NOOP
r< BAD Unknown command
r> NOOP {3}
r< + ...
r>> abc
r< BAD NOOP takes no literals

== literals before login are limited to 4 KiB (blueprint 7)
r> LOGIN {4097}
r< BAD Literal is too large before login
r> LOGIN {5000+}
r>= "x" x 5000
r>> 
r< BAD Literal is too large before login
r> LOGIN {99999999999999999999}
r< BAD Literal is too large
r> NOOP
r< OK ...

== a line without end
r>= "long NOOP "
r>= "aaaaaaaaaaaaaaaa" x 2000
r>> 
r<< long BAD Command line is too long
r> NOOP
r< OK ...

== a non-synchronizing literal far over the limit ends the connection (RFC 7888 4)
r> LOGIN {99999999+}
r< * BYE ...
r< disconnect

== not IMAP at all
client h raw
h<< * OK ...
h>> GET / HTTP/1.1
h< disconnect
client i raw
i<< * OK ...
i>> POST /x HTTP/1.0
i< disconnect
client t raw
t<< * OK ...
t>= "\x16\x03\x01\x02\x00\x01"
t< disconnect

== too many bad commands in a row
client b raw
b<< * OK ...
b>= "x FOO\r\n" x 25
b< * BYE Too many bad commands
b< disconnect

== cut anywhere
client c raw
c<< * OK ...
cut 1 bytes
c> NOOP
c< OK ...
c> LOGIN {4}
c< + ...
c>> user {1}
c<< + ...
c>> p {
c< BAD ...
cut 0 bytes

== limits after login: words, quoted strings, literals, commands, nesting
a> NOOP
a< OK ...
a> SELECT {131073}
a< BAD Literal is too large
a> SELECT {131073+}
a>= "x" x 131073
a>> 
a< BAD Literal is too large
a>= "w SELECT "
a>= "wwwwwwwwwwwwwwww" x 8193
a>> 
a<< w BAD Word is too long
a>= "q SELECT \""
a>= "wwwwwwwwwwwwwwww" x 8193
a>> "
a<< q BAD Quoted string is too long
a>= "c SEARCH "
a>= "ALL ALL ALL ALL " x 70000
a>> 
a<< c BAD Command line is too long
a> SELECT INBOX
a< OK ...
a>= "s SEARCH "
a>= "(" x 5000
a>> ALL
a<< s BAD ...
a>= "f FETCH 1 "
a>= "(" x 5000
a>> 
a<< f BAD ...
a>= "n SEARCH "
a>= "NOT " x 20000
a>> ALL
a<< n /BAD|NO/ ...
a>= "u UID FETCH 1"
a>= ",1000000:999999" x 20000
a>> :* FLAGS
a<< u /OK|BAD/ ...
a>= "k STORE 1 +FLAGS (a"
a>= " kwkwkw" x 2000
a>> )
a<< k BAD ...
a> SELECT "Entw&APw-rfe&"
a< NO [CANNOT] ...
a> SELECT "&AGE-"
a< NO [CANNOT] ...
a> APPEND INBOX "31-Feb-2024 00:00:00 +0000" {3}
a< BAD ...
a> SEARCH SINCE 32-Jan-2020
a< BAD ...
a> FETCH 0 FLAGS
a< BAD ...
a> FETCH 1:99999999999 FLAGS
a< BAD ...
a> LOGOUT
a< * BYE ...
a< OK ...

== parameters and modifiers that no extension has (RFC 4466 2): BAD, everywhere
client g as bob
mailbox S 2 messages as bob
g> SELECT S (FOO)
g< BAD ...
g> SELECT S ()
g< BAD ...
g> EXAMINE S (CONDSTORE FOO)
g< BAD ...
g> CREATE x (FOO)
g< BAD ...
g> CREATE x (FOO (bar))
g< BAD ...
g> CREATE x ()
g< BAD ...
g> RENAME S T (FOO)
g< BAD ...
g> SELECT S
g< OK ...
g> FETCH 1 FLAGS (FOO)
g< BAD ...
g> FETCH 1 FLAGS (FOO 3)
g< BAD ...
g> STORE 1 (FOO 1) FLAGS (\Seen)
g< BAD ...
g> SEARCH RETURN (FOO 1) ALL
g< BAD ...
g> APPEND S FOO (x) {3+}
g>= "a:b\r\n"
g< BAD ...
g> STATUS S (FOO)
g< BAD ...
g> STATUS S ()
g< BAD ...
g> LIST (FOO) "" "*"
g< BAD ...
g> COPY 1 S (FOO)
g< BAD ...
g> NOOP
g< OK ...
