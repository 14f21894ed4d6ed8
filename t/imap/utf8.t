#!t/transcript
# UTF8=ACCEPT (RFC 6855, RFC 9755)
config imap_reject8bit: yes
covers UTF8=ACCEPT ENABLE
mailbox INBOX 1 messages

== before ENABLE names are in modified UTF-7, and UTF-8 in quotes is out of grammar
a> CREATE "Entw&APw-rfe"
a< OK ...
a> LIST "" "Entw*"
a< * LIST (...) "/" Entw&APw-rfe
a< OK ...
a> STATUS "Entwürfe" (MESSAGES)
a< BAD ...

== with reject8bit a message with UTF-8 in its header is refused (RFC 9755 4)
a> APPEND INBOX {22+}
a>> Subject: grün
a>>
a>> body
a< NO ...
a> APPEND INBOX {22+}
a>> Subject: gruen
a>>
a>> bäh
a< OK [APPENDUID ...] ...

== ENABLE
a> ENABLE UTF8=ACCEPT
a< * ENABLED UTF8=ACCEPT
a< OK ...
a> LIST "" "Entw*"
a< * LIST (...) "/" "Entwürfe"
a< OK ...
a> STATUS "Entwürfe" (MESSAGES)
a< * STATUS "Entwürfe" (MESSAGES 0)
a< OK ...
a> CREATE "日本語"
a< OK ...
a> SUBSCRIBE "日本語"
a< OK ...
a> LSUB "" "*"
a< * LSUB (...) "/" "日本語"
a< OK ...
a> SELECT "日本語"
a< OK ...
a> MYRIGHTS "日本語"
a< * MYRIGHTS "日本語" ...
a< OK ...

== what is no UTF-8 is refused with BAD (RFC 9755 3), as are control characters in names
a>= "x1 STATUS \"\xff\xfe\" (MESSAGES)\r\n"
a<< x1 BAD ...
a>= "x2 CREATE \"a\xc2\x85b\"\r\n"
a<< x2 NO ...
a>= "x3 CREATE \"a\xe2\x80\xa8b\"\r\n"
a<< x3 NO ...

== messages with UTF-8 in their headers are taken and found
a> APPEND "日本語" {22+}
a>> Subject: grün
a>>
a>> body
a< OK [APPENDUID ...] ...
a> APPEND "日本語" UTF8 (~{22+}
a>> Subject: grün
a>>
a>> body)
a< OK [APPENDUID ...] ...
a> SEARCH SUBJECT "grün"
a< * SEARCH 1 2
a< OK ...
a> FETCH 1 ENVELOPE
a< * 1 FETCH (ENVELOPE (NIL "grün" ...))
a< OK ...
a> SEARCH CHARSET UTF-8 SUBJECT "x"
a< BAD ...

== other sessions go on in modified UTF-7
b> LIST "" "*"
b< * LIST (...) "/" &ZeVnLIqe-
b< OK ...
