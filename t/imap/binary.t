#!t/transcript
# BINARY (RFC 3516): decoded parts out, octets with NULs in
covers BINARY
a> SELECT INBOX
a< OK ...

== APPEND of a literal8; a literal may have no NUL
a> APPEND INBOX (\Flagged) ~{236}
a< + ...
a>= "From: a@x\r\nSubject: bin\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nhi\r\n--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\nX-After: y\r\n\r\n\x00\x01\x02\xff\r\n\x00\r\n--b--\r\n\r\n"
a< * 1 EXISTS
a< OK [APPENDUID $v 1] ...
a> APPEND INBOX {236+}
a>= "From: a@x\r\nSubject: bin\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nhi\r\n--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\nX-After: y\r\n\r\n\x00\x01\x02\xff\r\n\x00\r\n--b--\r\n\r\n"
a< NO Message contains NUL characters

== what came is given back by BINARY, BODY and BODYSTRUCTURE are base64 (RFC 3516 6)
a> FETCH 1 (BINARY.SIZE[2] BINARY.PEEK[2])
a< * 1 FETCH (BINARY.SIZE[2] 7 BINARY[2] /\x00\x01\x02\xff\r\n\x00/)
a< OK ...
a> FETCH 1 (BODY.PEEK[2] BODY.PEEK[2.MIME])
a< * 1 FETCH (BODY[2] "AAEC/w0KAA==" BODY[2.MIME] /Content-Type:.application.octet-stream\r\nContent-Transfer-Encoding:.base64\r\nX-After:.y\r\n\r\n/)
a< OK ...
a> FETCH 1 BODYSTRUCTURE
a< * 1 FETCH (BODYSTRUCTURE (("TEXT" "PLAIN" NIL NIL NIL "7BIT" 2 0 NIL NIL NIL NIL)("APPLICATION" "OCTET-STREAM" NIL NIL NIL "BASE64" 12 NIL NIL NIL NIL) "MIXED" ("BOUNDARY" "b") NIL NIL NIL))
a< OK ...

== partial: of the decoded octets
a> FETCH 1 (BINARY.PEEK[2]<1.2> BINARY.PEEK[2]<3.100> BINARY.PEEK[2]<7.1>)
a< * 1 FETCH (BINARY[2]<1> /\x01\x02/ BINARY[2]<3> /\xff\r\n\x00/ BINARY[2]<7> "")
a< OK ...

== literal8 only when there is a NUL, so the client need not look
a> FETCH 1 BINARY.PEEK[1]
a< * 1 FETCH (BINARY[1] "hi")
a< OK ...
run perl -MIO::Socket -e '$s=IO::Socket::INET->new("127.0.0.1:$ENV{IMAP}"); print $s "a LOGIN alice alice-pw\r\nb EXAMINE INBOX\r\nc FETCH 1 (BINARY[1] BINARY[2] BINARY[2]<1.2>)\r\nd LOGOUT\r\n"; local $/; $_=<$s>; exit !(/BINARY\[1\] (?:"hi"|\{2\}\r\nhi) BINARY\[2\] ~\{7\}\r\n\0\x01\x02\xff\r\n\0 BINARY\[2\]<1> \{2\}\r\n\x01\x02\)/)'

== a message of one part; a header alone gets the field
a> APPEND INBOX ~{58+}
a>= "Subject: all of it\r\nContent-Type: application/x-y\r\n\r\nab\x00cd\r\n"
a< OK [APPENDUID $v 2] ...
a> FETCH 2 (BINARY.PEEK[1] BODY.PEEK[HEADER] BODY.PEEK[TEXT])
a< * 2 FETCH (BINARY[1] /ab\x00cd/ BODY[HEADER] "Subject: all of it...Content-Type: application/x-y...Content-Transfer-Encoding: base64..." BODY[TEXT] "YWIAY2Q=...")
a< OK ...

== BINARY sets \Seen, its peek and size do not
a> FETCH 1 (BINARY.PEEK[1] BINARY.SIZE[1])
a! * 1 FETCH (... FLAGS ...)
a< OK ...
a> FETCH 1 BINARY[1]
a< * 1 FETCH (FLAGS (\Flagged \Seen ...) BINARY[1] "hi")
a< OK ...

== sections of nested messages
a> APPEND INBOX ~{419+}
a>= "Subject: outer\r\nContent-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\nContent-Type: multipart/mixed; boundary=i\r\n\r\n--i\r\n\r\nfirst\r\n--i\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\na=00b=3D\r\n--i\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\x00\x00\r\n--i--\r\n--o\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\naGVsbG8sIHdvcmxk\r\n--o--\r\n\r\n"
a< OK [APPENDUID $v 3] ...
a> FETCH 3 (BINARY.PEEK[1.1] BINARY.SIZE[1.2] BINARY.PEEK[1.2] BINARY.SIZE[1.3] BINARY.PEEK[1.3] BINARY.PEEK[2] BINARY.SIZE[2])
a< * 3 FETCH (BINARY[1.1] "first" BINARY.SIZE[1.2] 4 BINARY[1.2] /a\x00b=/ BINARY.SIZE[1.3] 2 BINARY[1.3] /\x00\x00/ BINARY[2] "hello, world" BINARY.SIZE[2] 12)
a< OK ...
a> FETCH 3 (BINARY.SIZE[1] BINARY.PEEK[1])
a< * 3 FETCH (BINARY.SIZE[1] 230 BINARY[1] "Subject: inner...")
a< OK ...
a> FETCH 3 (BODY.PEEK[1] BODY.PEEK[1.3] BINARY.PEEK[7] BINARY.SIZE[1.9])
a< * 3 FETCH (BODY[1] {230} BODY[1.3] "AAA=" BINARY[7] NIL BINARY.SIZE[1.9] 0)
a< OK ...
a> FETCH 3 (RFC822.SIZE BINARY.SIZE[] BINARY.PEEK[]<0.14>)
a< * 3 FETCH (RFC822.SIZE $s BINARY.SIZE[] $s BINARY[]<0> "Subject: outer")
a< OK ...

== an encoding that nobody knows
a> APPEND INBOX {51+}
a>= "Content-Transfer-Encoding: x-foo\r\nSubject: x\r\n\r\nz\r\n\r\n"
a< OK [APPENDUID $v 4] ...
a> FETCH 4 BINARY.PEEK[1]
a! * 4 FETCH ...
a< NO [UNKNOWN-CTE] ...
a> FETCH 4 (UID BINARY.SIZE[1])
a< * 4 FETCH (UID 4)
a< NO [UNKNOWN-CTE] ...
a> FETCH 4 BINARY.PEEK[]
a< * 4 FETCH (BINARY[] ...)
a< OK ...

== NULs where no encoding could keep them
a> APPEND INBOX ~{19+}
a>= "Subject: x\x00y\r\n\r\nz\r\n\r\n"
a< NO [UNKNOWN-CTE] ...
a> APPEND INBOX ~{43+}
a>= "Content-Transfer-Encoding: base64\r\n\r\nAA\x00=\r\n\r\n"
a< NO [UNKNOWN-CTE] ...

== grammar
a> FETCH 1 BINARY[HEADER]
a< BAD ...
a> FETCH 1 BINARY[1.MIME]
a< BAD ...
a> FETCH 1 BINARY.SIZE[1]<0.1>
a< BAD ...
a> FETCH 1 BINARY.SIZE[1]<0>
a< BAD ...

== large: a blob, then with CATENATE
a> APPEND INBOX ~{160077+}
a>= "Content-Transfer-Encoding: binary\r\nContent-Type: application/octet-stream\r\n\r\n"
a>= "0123456\x00" x 20000
a>>
a< OK [APPENDUID $v 5] ...
a> FETCH 5 (BINARY.SIZE[1] BINARY.PEEK[1]<159990.100>)
a< * 5 FETCH (BINARY.SIZE[1] 160000 BINARY[1]<159990> /67?.?.*/)
a< OK ...
a> APPEND INBOX CATENATE (TEXT {77+}
a>= "Content-Transfer-Encoding: binary\r\nContent-Type: application/octet-stream\r\n\r\n TEXT ~{5+}\r\n12\x0034 URL \"/INBOX/;UID=2/;SECTION=TEXT\")\r\n"
a< OK [APPENDUID $v 6] ...
a> FETCH 6 (BINARY.SIZE[1] BINARY.PEEK[1] BODY.PEEK[1])
a< * 6 FETCH (BINARY.SIZE[1] 15 BINARY[1] /12\x0034YWIAY2Q=\r\n/ BODY[1] "MTIAMzRZV0lBWTJRPQ0K...")
a< OK ...
