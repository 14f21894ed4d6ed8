#!t/transcript
# CATENATE (RFC 4469): messages made of literals and of parts of others; URLs are RFC 5092's
config maxmessagesize: 100000
covers CATENATE
a> CREATE Drafts
a< OK ...
a> APPEND Drafts {528+}
a>= "Message-ID: <419399E1.6000505@example.org>\r\nFrom: Bob Ar <bar@example.org>\r\nMIME-Version: 1.0\r\nSubject: About our holiday trip\r\nContent-Type: multipart/mixed;\r\n boundary=\"------------030308070208000400050907\"\r\n\r\n--------------030308070208000400050907\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\nOur travel agent has sent the updated schedule.\r\n--------------030308070208000400050907\r\nContent-Type: application/x-zip-compressed\r\nContent-Transfer-Encoding: base64\r\n\r\nUEsDBAoAAAAAAA==\r\n--------------030308070208000400050907--\r\n\r\n"
a< OK [APPENDUID $v 1] ...
a> APPEND Drafts {42+}
a>= "Subject: another\r\n\r\nfrom another message\r\n\r\n"
a< OK [APPENDUID $v 2] ...

== an attachment is replaced (RFC 4469, example 1), with nothing selected
a> APPEND Drafts (\Seen \Draft $MDNSent) CATENATE (URL "/Drafts;UIDVALIDITY=$v/;UID=1/;section=HEADER" TEXT {42}
a< + ...
a>= "\r\n--------------030308070208000400050907\r\n URL \"/Drafts;UIDVALIDITY=$v/;UID=1/;section=1.MIME\" URL \"/Drafts;UIDVALIDITY=$v/;UID=1/;section=1\" TEXT {42}\r\n"
a< + ...
a>= "\r\n--------------030308070208000400050907\r\n URL \"/Drafts;UIDVALIDITY=$v/;UID=2\" TEXT {44}\r\n"
a< + ...
a>= "\r\n--------------030308070208000400050907--\r\n)\r\n"
a< OK [APPENDUID $v 3] ...
a> EXAMINE Drafts
a< * 3 EXISTS
a< OK ...
a> FETCH 3 (FLAGS RFC822.SIZE BODY.PEEK[])
a< * 3 FETCH (FLAGS (\Seen \Draft $MDNSent ...) RFC822.SIZE 475 BODY[] {475})
a< OK ...
a> FETCH 1:2 FLAGS
a! * 1 FETCH (... \Seen ...)
a< OK ...
a> UNSELECT
a< OK ...

== octets are those of the parts, unchanged (example 2)
a> APPEND Drafts CATENATE (TEXT {212+}
a>= "Message-ID: <419399E1.6000505@example.org>\r\nFrom: Bob Ar <bar@example.org>\r\nMIME-Version: 1.0\r\nSubject: About our holiday trip\r\nContent-Type: multipart/mixed;\r\n boundary=\"------------030308070208000400050907\"\r\n\r\n TEXT {40+}\r\n--------------030308070208000400050907\r\n URL \"/Drafts;UIDVALIDITY=$v/;UID=1/;Section=1.MIME\" URL \"/Drafts;UIDVALIDITY=$v/;UID=1/;Section=1\" TEXT {42+}\r\n"
a>= "\r\n--------------030308070208000400050907\r\n URL \"/Drafts;UIDVALIDITY=$v/;UID=1/;Section=2.MIME\" URL \"/Drafts;UIDVALIDITY=$v/;UID=1/;Section=2\" TEXT {44+}\r\n"
a>= "\r\n--------------030308070208000400050907--\r\n)\r\n"
a< OK [APPENDUID $v 4] ...
a> APPEND Drafts CATENATE (URL /Drafts/;UID=4)
a< OK [APPENDUID $v 5] ...
a> EXAMINE Drafts
a< OK ...
a> SEARCH LARGER 527 SMALLER 529 BODY "updated schedule"
a< * SEARCH 1 4 5
a< OK ...

== relative to the mailbox that is selected; partial; header fields
a> APPEND Drafts CATENATE (URL ";UID=1/;SECTION=HEADER.FIELDS%20(SUBJECT%20FROM)" URL "/;UID=2/;SECTION=TEXT/;PARTIAL=5.7")
a< OK [APPENDUID $v 6] ...
a> APPEND Drafts CATENATE (URL "Drafts/;UID=2/;PARTIAL=0.20" TEXT {3+}
a>= "x\r\n)\r\n"
a< * 7 EXISTS
a< OK [APPENDUID $v 7] ...
a> FETCH 6:7 BODY.PEEK[]
a< * 6 FETCH (BODY[] "From: Bob Ar <bar@example.org>...Subject: About our holiday trip...another")
a< * 7 FETCH (BODY[] "Subject: another...x...")
a< OK ...

== a URL that names nothing (example 4): the first one is told, nothing is appended
a> APPEND Drafts (\Seen $MDNSent) CATENATE (TEXT {17+}
a>= "Subject: s\r\n\r\nx\r\n URL \"/Drafts;UIDVALIDITY=$v/;UID=1\" TEXT {1+}\r\nx URL \"/Drafts;UIDVALIDITY=$v/;UID=113330/;section=1.5.9\" URL \"/nowhere/;UID=1\")\r\n"
a< NO [BADURL /nowhere/;UID=1] ...
a> APPEND Drafts CATENATE (URL "/Drafts;UIDVALIDITY=$v/;UID=113330/;section=1.5.9" URL "/Drafts/;UID=99")
a< NO [BADURL /Drafts;UIDVALIDITY=$v/;UID=113330/;section=1.5.9] ...
a> APPEND Drafts CATENATE (URL "/Drafts;UIDVALIDITY=1/;UID=1")
a< NO [BADURL /Drafts;UIDVALIDITY=1/;UID=1] ...
a> APPEND Drafts CATENATE (URL "/Drafts/;UID=1/;SECTION=7")
a< NO [BADURL /Drafts/;UID=1/;SECTION=7] ...
a> APPEND Drafts CATENATE (URL "/Drafts/;UID=1/;SECTION=1.5.9.MUM")
a< NO [BADURL ...] ...
a> APPEND Drafts CATENATE (URL "/Drafts")
a< NO [BADURL /Drafts] ...
a> APPEND Drafts CATENATE (URL "imap://alice@localhost/Drafts/;UID=1")
a< NO [BADURL ...] ...
a> APPEND Drafts CATENATE (URL "http://localhost/")
a< NO [BADURL ...] ...
a> APPEND Drafts CATENATE (URL "/Drafts/;UID=1]x%zz")
a< NO [BADURL /Drafts/;UID=1%5Dx%zz] ...
a> APPEND Drafts CATENATE (URL "")
a< NO [BADURL ...
a> NOOP
a! * 8 EXISTS
a< OK ...

== mail that one may not read, or only look up, is answered as what does not exist
client b as bob
mailbox secret 1 messages as bob
b> SETACL secret alice li
b< OK ...
a> APPEND Drafts CATENATE (URL "/Other%20Users/bob/secret/;UID=1")
a< NO [BADURL /Other%20Users/bob/secret/;UID=1] A part of the message could not be found
a> APPEND Drafts CATENATE (URL "/Other%20Users/bob/none/;UID=1")
a< NO [BADURL /Other%20Users/bob/none/;UID=1] A part of the message could not be found
b> SETACL secret alice lr
b< OK ...
a> APPEND Drafts CATENATE (URL "/Other%20Users/bob/secret/;UID=1")
a< * 8 EXISTS
a< OK ...

== too big, empty, grammar
a> APPEND Drafts CATENATE (TEXT {100001+}
a>= "0123456789" x 10000
a>= "x)\r\n"
a< NO [TOOBIG] ...
a> APPEND Drafts CATENATE (TEXT {60000+}
a>= "0123456789" x 6000
a>= " TEXT {60000+}\r\n"
a>= "0123456789" x 6000
a>= ")\r\n"
a< NO [TOOBIG] ...
a> APPEND Drafts CATENATE (TEXT {60000}
a< + ...
a>= "0123456789" x 6000
a>= " TEXT {100001}\r\n"
a< NO [TOOBIG] ...
a> APPEND Drafts CATENATE (TEXT {0+}
a>>  TEXT {0+}
a>> )
a< NO The message is empty
a> APPEND Drafts CATENATE ()
a< BAD ...
a> APPEND Drafts CATENATE (TEXT "quoted")
a< BAD ...
a> APPEND Drafts CATENATE (URI "/x")
a< BAD ...
a> APPEND Drafts CATENATE (URL "/x"
a< BAD ...
a> APPEND nowhere CATENATE (URL "/Drafts/;UID=1")
a< NO [TRYCREATE] ...
a> APPEND Drafts CATENATE (TEXT {3+}
a>= "a\x00b)\r\n"
a< NO Message contains NUL characters
a> NOOP
a! * 9 EXISTS
a< OK ...

== the URL as a literal; with MULTIAPPEND; a large part
a> APPEND Drafts (one) CATENATE (URL {14+}
a>= "/Drafts/;UID=1 URL {14+}\r\n/Drafts/;UID=2 TEXT {3+}\r\nx\r\n) {17+}\r\nSubject: s\r\n\r\nx\r\n (three) CATENATE (TEXT {70000+}\r\n"
a>= "0123456789abcde\r" x 4375
a>= " URL \"/Drafts/;UID=2\")\r\n"
a< * 11 EXISTS
a< OK [APPENDUID $v 9:11] ...
a> FETCH 9:11 (UID RFC822.SIZE FLAGS)
a< * 9 FETCH (UID 9 RFC822.SIZE 573 FLAGS (one ...))
a< * 10 FETCH (UID 10 RFC822.SIZE 17 FLAGS (...))
a< * 11 FETCH (UID 11 RFC822.SIZE 70042 FLAGS (three ...))
a< OK ...
a> FETCH 11 BODY.PEEK[]<70000.17>
a< * 11 FETCH (BODY[]<70000> "Subject: another...")
a< OK ...
