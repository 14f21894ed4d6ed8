#!t/transcript
# I18NLEVEL=1 (RFC 5255 4): i;unicode-casemap (RFC 5051) in SEARCH, SORT and THREAD; charsets
covers I18NLEVEL=1
a> CREATE I
a< OK ...
a> APPEND I {202+}
a>= "From: =?iso-8859-7?B?07rT1dbP0w==?= <a@x>\r\nSubject: =?utf-8?B?U3RyYcOfZSDHhA==?=\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=koi8-r\r\nContent-Transfer-Encoding: base64\r\n\r\n8NLJ18XULCDNydINCg==\r\n"
a>>
a< OK ...
a> APPEND I {187+}
a>= "From: b@x\r\nSubject: =?shift_jis?B?k/qWe4zq?=\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nna=EFve caf=E9 soft=\r\nbreak\r\n"
a>>
a< OK ...
a> APPEND I {153+}
a>= "From: c@x\r\nSubject: =?utf-8?q?e=CC=81tat?=\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=no-such\r\nContent-Transfer-Encoding: 8bit\r\n\r\nplain text\r\n"
a>>
a< OK ...
a> APPEND I {31+}
a>= "From: d@x\r\nSubject: Etbt\r\n\r\nx\r\n"
a>>
a< OK ...
a> SELECT I
a< * 4 EXISTS
a< OK ...

== needles and haystacks in any charset, any case
a> SEARCH CHARSET UTF-8 BODY {12+}
a>= "\xd0\x9f\xd0\xa0\xd0\x98\xd0\x92\xd0\x95\xd0\xa2"
a>>
a< * SEARCH 1
a< OK ...
a> SEARCH CHARSET KOI8-R BODY {6+}
a>= "\xd0\xf2\xe9\xf7\xe5\xf4"
a>>
a< * SEARCH 1
a< OK ...
a> SEARCH CHARSET windows-1251 TEXT {3+}
a>= "\xec\xe8\xf0"
a>>
a< * SEARCH 1
a< OK ...
a> SEARCH CHARSET iso-8859-7 FROM {3+}
a>= "\xf3\xf5\xf3"
a>>
a< * SEARCH
a< OK ...
a> SEARCH CHARSET iso-8859-7 FROM {3+}
a>= "\xf5\xf6\xef"
a>>
a< * SEARCH 1
a< OK ...
a> SEARCH CHARSET UTF-8 SUBJECT {2+}
a>= "\xc7\x86"
a>>
a< * SEARCH 1
a< OK ...
a> SEARCH CHARSET ISO-2022-JP SUBJECT {10+}
a>= "\x1b\x24\x42\x4b\x5c\x38\x6c\x1b\x28\x42"
a>>
a< * SEARCH 2
a< OK ...
a> SEARCH CHARSET EUC-JP SUBJECT {4+}
a>= "\xc6\xfc\xcb\xdc"
a>>
a< * SEARCH 2
a< OK ...
a> SEARCH CHARSET ISO-8859-1 BODY {20+}
a>= "\x4e\x41\xcf\x56\x45\x20\x43\x41\x46\xc9\x20\x53\x4f\x46\x54\x42\x52\x45\x41\x4b"
a>>
a< * SEARCH 2
a< OK ...

== composed and decomposed are the same
a> SEARCH CHARSET UTF-8 SUBJECT {5+}
a>= "\xc3\x89\x54\x41\x54"
a>>
a< * SEARCH 3
a< OK ...

== an unknown charset in a message is searched all the same
a> SEARCH BODY "plain text"
a< * SEARCH 3
a< OK ...

== SORT and THREAD by the same collation: E T B T comes before E, accent, T A T
a> SORT (SUBJECT) UTF-8 3:4
a< * SORT 4 3
a< OK ...
a> UID SORT (FROM) KOI8-R ALL
a< * SORT 1 2 3 4
a< OK ...

== BADCHARSET
a> SEARCH CHARSET X-UNKNOWN SUBJECT a
a< NO [BADCHARSET (US-ASCII UTF-8)] ...
a> SORT (DATE) klingon ALL
a< NO [BADCHARSET (US-ASCII UTF-8)] ...
a> THREAD REFERENCES klingon ALL
a< NO [BADCHARSET (US-ASCII UTF-8)] ...
