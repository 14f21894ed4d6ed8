#!t/transcript
# LITERAL- in place of LITERAL+ (RFC 7888 5): up to 4,096 octets without waiting
config literalminus: yes
covers LITERAL-

== announced instead of LITERAL+
a> CAPABILITY
a< * CAPABILITY ... LITERAL- ...
a! * CAPABILITY ... LITERAL+ ...
a< OK ...

== 4,096 octets may come at once
a>= "b1 APPEND INBOX {4096+}\r\n"
a>= "Subject: x\r\n\r\n"
a>= "0123456789012345678901234567890123456789012345678901234567890\r\n" x 64
a>= "0" x 50
a>>
a<< b1 OK ...

== more is refused; the session goes on with the next command
a>= "b2 APPEND INBOX {4097+}\r\n"
a>= "x" x 4097
a>>
a<< b2 BAD [TOOBIG] ...
a> NOOP
a< OK ...
a> APPEND INBOX CATENATE (TEXT {5000+}
a>= "0123456789" x 500
a>= ")\r\n"
a< BAD [TOOBIG] ...
a> SELECT INBOX
a< OK ...
a> REPLACE 1 INBOX {5000+}
a>= "0123456789" x 500
a>= "\r\n"
a< BAD [TOOBIG] ...

== of anything else, too, but there it is no message that is too big
a> SEARCH BODY {5000+}
a>= "0123456789" x 500
a>= "\r\n"
a< BAD Non-synchronizing ...
a> NOOP
a< OK ...

== as much as one likes when one waits
a> APPEND INBOX {5000}
a< + ...
a>= "x: y\r\n\r\n"
a>= "x" x 4992
a>>
a< OK [APPENDUID ...] ...
