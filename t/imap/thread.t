#!t/transcript
# THREAD: ORDEREDSUBJECT, REFERENCES (RFC 5256), REFS (draft-ietf-morg-inthread)
covers THREAD=ORDEREDSUBJECT THREAD=REFERENCES THREAD=REFS
a> CREATE A
a< OK ...
a> APPEND A "01-Feb-2024 00:00:00 +0000" {71+}
a>= "Message-ID: <1@x>\r\nSubject: one\r\nDate: 1 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> APPEND A "02-Feb-2024 00:00:00 +0000" {94+}
a>= "Message-ID: <2@x>\r\nReferences: <1@x>\r\nSubject: Re: one\r\nDate: 3 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> APPEND A "03-Feb-2024 00:00:00 +0000" {94+}
a>= "Message-ID: <3@x>\r\nReferences: <1@x>\r\nSubject: Re: one\r\nDate: 2 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> APPEND A "09-Feb-2024 00:00:00 +0000" {98+}
a>= "Message-ID: <4@x>\r\nReferences: <1@x> <2@x>\r\nSubject: other\r\nDate: 4 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> APPEND A "05-Feb-2024 00:00:00 +0000" {93+}
a>= "Message-ID: <5@x>\r\nReferences: <none@x>\r\nSubject: two\r\nDate: 5 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> APPEND A "06-Feb-2024 00:00:00 +0000" {93+}
a>= "Message-ID: <6@x>\r\nReferences: <none@x>\r\nSubject: TWO\r\nDate: 6 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> APPEND A "07-Feb-2024 00:00:00 +0000" {73+}
a>= "Message-ID: <7@x>\r\nSubject: seven\r\nDate: 7 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> APPEND A "08-Feb-2024 00:00:00 +0000" {102+}
a>= "In-Reply-To: Your message <\"7\"@x> of <8@y>\r\nSubject: Re: seven\r\nDate: 8 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> SELECT A
a< OK ...

== links by reference; a missing parent; In-Reply-To; ids with quotes are the same
a> THREAD REFERENCES UTF-8 ALL
a< * THREAD (1 (3)(2 4))((5)(6))(7 8)
a< OK ...
a> UID THREAD REFS UTF-8 ALL
a< * THREAD ((5)(6))(7 8)(1 (3)(2 4))
a< OK ...
a> THREAD ORDEREDSUBJECT US-ASCII ALL
a< * THREAD (1 (3)(2))(4)(5 6)(7 8)
a< OK ...

== only what was searched
a> THREAD REFERENCES UTF-8 1,4,8
a< * THREAD (1 4)(8)
a< OK ...
a> THREAD REFERENCES UTF-8 SUBJECT nothing
a< * THREAD
a< OK ...

== the first one is expunged: numbers and UIDs
a> STORE 1 +FLAGS.SILENT (\Deleted)
a< OK ...
a> EXPUNGE
a< * 1 EXPUNGE
a< OK ...
a> THREAD REFERENCES UTF-8 ALL
a< * THREAD ((2)(1 3))((4)(5))(6 7)
a< OK ...
a> UID THREAD REFERENCES UTF-8 ALL
a< * THREAD ((3)(2 4))((5)(6))(7 8)
a< OK ...

== threads of one subject
a> CREATE B
a< OK ...
a> APPEND B "01-Feb-2024 00:00:00 +0000" {77+}
a>= "Message-ID: <1@s>\r\nSubject: Re: hello\r\nDate: 2 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> APPEND B "02-Feb-2024 00:00:00 +0000" {73+}
a>= "Message-ID: <2@s>\r\nSubject: hello\r\nDate: 3 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> APPEND B "03-Feb-2024 00:00:00 +0000" {91+}
a>= "Message-ID: <3@s>\r\nSubject: Fwd: [list] HELLO (fwd)\r\nDate: 4 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> APPEND B "04-Feb-2024 00:00:00 +0000" {71+}
a>= "Message-ID: <4@s>\r\nSubject: bye\r\nDate: 5 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> APPEND B "05-Feb-2024 00:00:00 +0000" {71+}
a>= "Message-ID: <5@s>\r\nSubject: bye\r\nDate: 6 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> APPEND B "06-Feb-2024 00:00:00 +0000" {94+}
a>= "Message-ID: <6@s>\r\nReferences: <gone@s>\r\nSubject: lost\r\nDate: 7 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> APPEND B "07-Feb-2024 00:00:00 +0000" {94+}
a>= "Message-ID: <7@s>\r\nReferences: <gone@s>\r\nSubject: lost\r\nDate: 8 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> APPEND B "08-Feb-2024 00:00:00 +0000" {72+}
a>= "Message-ID: <8@s>\r\nSubject: lost\r\nDate: 9 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> APPEND B "09-Feb-2024 00:00:00 +0000" {99+}
a>= "Message-ID: <9@s>\r\nReferences: <away@s>\r\nSubject: Re: lost\r\nDate: 10 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> APPEND B "10-Feb-2024 00:00:00 +0000" {100+}
a>= "Message-ID: <10@s>\r\nReferences: <away@s>\r\nSubject: Re: lost\r\nDate: 11 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> APPEND B "11-Feb-2024 00:00:00 +0000" {69+}
a>= "Message-ID: <11@s>\r\nSubject: \r\nDate: 1 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> APPEND B "12-Feb-2024 00:00:00 +0000" {73+}
a>= "Message-ID: <12@s>\r\nSubject: Re:\r\nDate: 12 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> APPEND B "13-Feb-2024 00:00:00 +0000" {78+}
a>= "Message-ID: <13@s>\r\nSubject: Re: only\r\nDate: 13 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> APPEND B "14-Feb-2024 00:00:00 +0000" {80+}
a>= "Message-ID: <14@s>\r\nSubject: only (fwd)\r\nDate: 14 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> SELECT B
a< OK ...
a> THREAD REFERENCES UTF-8 ALL
a< * THREAD (11)(2 (1)(3))((4)(5))((6)(7)(8)(9)(10))(12)((13)(14))
a< OK ...
a> THREAD REFS UTF-8 ALL
a< * THREAD (1)(2)(3)(4)(5)((6)(7))(8)((9)(10))(11)(12)(13)(14)
a< OK ...
a> THREAD ORDEREDSUBJECT UTF-8 ALL
a< * THREAD (11 12)(1 (2)(3))(4 5)(6 (7)(8)(9)(10))(13 14)
a< OK ...

== odd references: loops, oneself, duplicate ids, broken ids, a truncated list
a> CREATE C
a< OK ...
a> APPEND C "01-Feb-2024 00:00:00 +0000" {89+}
a>= "Message-ID: <a@c>\r\nReferences: <b@c>\r\nSubject: l1\r\nDate: 1 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> APPEND C "02-Feb-2024 00:00:00 +0000" {89+}
a>= "Message-ID: <b@c>\r\nReferences: <a@c>\r\nSubject: l2\r\nDate: 2 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> APPEND C "03-Feb-2024 00:00:00 +0000" {91+}
a>= "Message-ID: <s@c>\r\nReferences: <s@c>\r\nSubject: self\r\nDate: 3 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> APPEND C "04-Feb-2024 00:00:00 +0000" {71+}
a>= "Message-ID: <d@c>\r\nSubject: dup\r\nDate: 4 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> APPEND C "05-Feb-2024 00:00:00 +0000" {75+}
a>= "Message-ID: <d@c>\r\nSubject: dup too\r\nDate: 5 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> APPEND C "06-Feb-2024 00:00:00 +0000" {93+}
a>= "Message-ID: <e@c>\r\nReferences: <d@c>\r\nSubject: answer\r\nDate: 6 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> APPEND C "07-Feb-2024 00:00:00 +0000" {106+}
a>= "Message-ID: nonsense\r\nReferences: <no-at-sign> broken\r\nSubject: x1\r\nDate: 7 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> APPEND C "08-Feb-2024 00:00:00 +0000" {116+}
a>= "Message-ID: <g@c>\r\nReferences: <no-at-sign>\r\nIn-Reply-To: <e@c>\r\nSubject: x2\r\nDate: 8 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> APPEND C "09-Feb-2024 00:00:00 +0000" {98+}
a>= "Message-ID: <h@c>\r\nReferences: <root@c> <i@c>\r\nSubject: x3\r\nDate: 9 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> APPEND C "10-Feb-2024 00:00:00 +0000" {94+}
a>= "Message-ID: <i@c>\r\nReferences: <other@c>\r\nSubject: x4\r\nDate: 10 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> APPEND C "11-Feb-2024 00:00:00 +0000" {93+}
a>= "Message-ID: <j@c>\r\nReferences: <root@c>\r\nSubject: x5\r\nDate: 11 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> SELECT C
a< OK ...
a> THREAD REFERENCES UTF-8 ALL
a< * THREAD (2 1)(3)(4 6 8)(5)(7)(10 9)(11)
a< OK ...

== a chain and wide threads
a> CREATE D
a< OK ...
a> APPEND D "01-Feb-2024 00:00:00 +0000" {70+}
a>= "Message-ID: <1@d>\r\nSubject: s1\r\nDate: 1 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> APPEND D "02-Feb-2024 00:00:00 +0000" {89+}
a>= "Message-ID: <2@d>\r\nReferences: <1@d>\r\nSubject: s2\r\nDate: 2 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> APPEND D "03-Feb-2024 00:00:00 +0000" {89+}
a>= "Message-ID: <3@d>\r\nReferences: <2@d>\r\nSubject: s3\r\nDate: 3 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> APPEND D "04-Feb-2024 00:00:00 +0000" {89+}
a>= "Message-ID: <4@d>\r\nReferences: <3@d>\r\nSubject: s4\r\nDate: 4 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> APPEND D "05-Feb-2024 00:00:00 +0000" {89+}
a>= "Message-ID: <5@d>\r\nReferences: <4@d>\r\nSubject: s5\r\nDate: 5 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> APPEND D "06-Feb-2024 00:00:00 +0000" {89+}
a>= "Message-ID: <6@d>\r\nReferences: <5@d>\r\nSubject: s6\r\nDate: 6 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> APPEND D "07-Feb-2024 00:00:00 +0000" {89+}
a>= "Message-ID: <7@d>\r\nReferences: <6@d>\r\nSubject: s7\r\nDate: 7 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> APPEND D "08-Feb-2024 00:00:00 +0000" {89+}
a>= "Message-ID: <8@d>\r\nReferences: <7@d>\r\nSubject: s8\r\nDate: 8 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> APPEND D "09-Feb-2024 00:00:00 +0000" {90+}
a>= "Message-ID: <w1@d>\r\nReferences: <4@d>\r\nSubject: w1\r\nDate: 9 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> APPEND D "10-Feb-2024 00:00:00 +0000" {91+}
a>= "Message-ID: <w2@d>\r\nReferences: <4@d>\r\nSubject: w2\r\nDate: 10 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> APPEND D "11-Feb-2024 00:00:00 +0000" {91+}
a>= "Message-ID: <w3@d>\r\nReferences: <4@d>\r\nSubject: w3\r\nDate: 11 Jan 2024 00:00:00 +0000\r\n\r\nx\r\n"
a>>
a< OK ...
a> SELECT D
a< OK ...
a> THREAD REFERENCES UTF-8 ALL
a< * THREAD (1 2 3 4 (5 6 7 8)(9)(10)(11))
a< OK ...

== out of grammar
a> THREAD
a< BAD ...
a> THREAD REFERENCES
a< BAD ...
a> THREAD FOO UTF-8 ALL
a< BAD ...
a> THREAD REFERENCES UTF-8
a< BAD ...
a> THREAD (REFERENCES) UTF-8 ALL
a< BAD ...
a> THREAD REFERENCES X-NONE ALL
a< NO [BADCHARSET (US-ASCII UTF-8)] ...
a> UID THREAD REFERENCES UTF-8 99
a< * THREAD
a< OK ...
a> NOOP
a< OK ...
