#!t/transcript
# MULTIAPPEND (RFC 3502): several messages in one command, all or none
config maxmessagesize: 100000
covers MULTIAPPEND UIDPLUS
a> CREATE saved-messages
a< OK ...
a> SELECT saved-messages
a< OK ...

== two messages with flags and dates of their own (RFC 3502, first example)
a> APPEND saved-messages (\Seen) {329}
a< + ...
a>= "Date: Mon, 7 Feb 1994 21:52:25 -0800 (PST)\r\nFrom: Fred Foobar <foobar@Blurdybloop.example.COM>\r\nSubject: afternoon meeting\r\nTo: mooch@owatagu.example.net\r\nMessage-Id: <B27397-0100000@Blurdybloop.example.COM>\r\nMIME-Version: 1.0\r\nContent-Type: TEXT/PLAIN; CHARSET=US-ASCII\r\n\r\nHello Joe, do you think we can meet at 3:30 tomorrow?\r\n"
a>= " (\\Seen kw) \" 7-Feb-1994 22:43:04 -0800\" {295}\r\n"
a< + ...
a>= "Date: Mon, 7 Feb 1994 22:43:04 -0800 (PST)\r\nFrom: Joe Mooch <mooch@OWaTaGu.example.net>\r\nSubject: Re: afternoon meeting\r\nTo: foobar@blurdybloop.example.com\r\nMessage-Id: <a0434793874930@OWaTaGu.example.net>\r\nMIME-Version: 1.0\r\nContent-Type: TEXT/PLAIN; CHARSET=US-ASCII\r\n\r\n3:30 is fine with me.\r\n"
a>>
a< * 2 EXISTS
a< OK [APPENDUID $v 1:2] ...
a> FETCH 1:2 (UID FLAGS INTERNALDATE RFC822.SIZE)
a< * 1 FETCH (UID 1 FLAGS (\Seen ...) INTERNALDATE ... RFC822.SIZE 329)
a< * 2 FETCH (UID 2 FLAGS (\Seen kw ...) INTERNALDATE " 8-Feb-1994 06:43:04 +0000" RFC822.SIZE 295)
a< OK ...

== a mailbox that is not there (second example)
a> APPEND bogusname (\Flagged) {1023}
a< NO [TRYCREATE] ...

== the second one is refused before it came: nothing was appended (third example)
a> APPEND saved-messages (\Flagged) {17}
a< + ...
a>= "Subject: s\r\n\r\nx\r\n"
a>= " {100001}\r\n"
a! * 3 EXISTS
a< NO [TOOBIG] ...

== an empty one cancels all
a> APPEND saved-messages {17}
a< + ...
a>= "Subject: s\r\n\r\nx\r\n"
a>= " {0}\r\n"
a< NO The message is empty
a> APPEND saved-messages {17+}
a>= "Subject: s\r\n\r\nx\r\n {0+}\r\n {17+}\r\nSubject: s\r\n\r\nx\r\n\r\n"
a! * 3 EXISTS
a< NO The message is empty
a> NOOP
a! * 3 EXISTS
a< OK ...

== bad grammar between two messages: nothing was appended
a> APPEND saved-messages {17+}
a>= "Subject: s\r\n\r\nx\r\n (\\Nonsense) {17+}\r\nSubject: s\r\n\r\nx\r\n\r\n"
a< BAD ...
a> APPEND saved-messages {17+}
a>= "Subject: s\r\n\r\nx\r\n  {17+}\r\nSubject: s\r\n\r\nx\r\n\r\n"
a< BAD ...
a> APPEND saved-messages {17+}
a>= "Subject: s\r\n\r\nx\r\n \r\n"
a< BAD ...
a> APPEND saved-messages {17+}
a>= "Subject: s\r\n\r\nx\r\n CATENATE\r\n"
a< BAD ...
a> NOOP
a! * 3 EXISTS
a< OK ...

== NUL in the second one
a> APPEND saved-messages {17+}
a>= "Subject: s\r\n\r\nx\r\n {5+}\r\na: b\x00\r\n"
a< NO Message contains NUL characters
a> NOOP
a! * 3 EXISTS
a< OK ...

== small and large, cut anywhere; the mailbox's name is a literal
cut 1000 bytes
a> APPEND {14+}
a>= "saved-messages {17+}\r\nSubject: s\r\n\r\nx\r\n (large) {90000+}\r\n"
a>= "Subject: large\r\n\r\n"
a>= "0123456789abcdef" x 5623
a>= "0123456789abc\r"
a>= " \"01-Jan-2001 00:00:00 +0000\" {17+}\r\nSubject: s\r\n\r\nx\r\n\r\n"
cut 0 bytes
a< * 5 EXISTS
a< OK [APPENDUID $v 3:5] ...
a> FETCH 3:5 (UID RFC822.SIZE FLAGS)
a< * 3 FETCH (UID 3 RFC822.SIZE 17 FLAGS (...))
a< * 4 FETCH (UID 4 RFC822.SIZE 90000 FLAGS (large ...))
a< * 5 FETCH (UID 5 RFC822.SIZE 17 FLAGS (...))
a< OK ...

== what was acknowledged is there after a kill
server kill
a> SELECT saved-messages
a< * 5 EXISTS
a< OK ...
a> FETCH 3:5 RFC822.SIZE
a< * 3 FETCH (RFC822.SIZE 17)
a< * 4 FETCH (RFC822.SIZE 90000)
a< * 5 FETCH (RFC822.SIZE 17)
a< OK ...
