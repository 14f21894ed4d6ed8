#!t/transcript
# PREVIEW (RFC 8970): the first words of a message
covers PREVIEW
a> SELECT INBOX
a< OK ...

== text/plain: blanks, quotes and signature go
a> APPEND INBOX {166+}
a>= "Subject: plain\r\n\r\n> what was\r\n> said before\r\n\r\nLorem  ipsum\tdolor sit amet,\r\n  consectetur \"adipiscing\" elit.\r\n> once more\r\n\r\nCurabitur \\ aliquam.\r\n-- \r\nFred Foobar\r\n\r\n"
a< OK ...
a> FETCH 1 (RFC822.SIZE PREVIEW)
a< * 1 FETCH (RFC822.SIZE $n PREVIEW "Lorem ipsum dolor sit amet, consectetur \"adipiscing\" elit. Curabitur \\ aliquam.")
a< OK ...
a> FETCH 1 PREVIEW
a! * 1 FETCH (... FLAGS ...)
a< * 1 FETCH (PREVIEW "Lorem...")
a< OK ...

== LAZY, and FETCH's own modifiers behind it
a> FETCH 1 (UID PREVIEW (LAZY))
a< * 1 FETCH (UID 1 PREVIEW "Lorem...")
a< OK ...
a> FETCH 1 PREVIEW (LAZY)
a< * 1 FETCH (PREVIEW "Lorem...")
a< OK ...
a> FETCH 1 PREVIEW (LAZY) (CHANGEDSINCE 1)
a< * OK [HIGHESTMODSEQ ...
a< * 1 FETCH (PREVIEW "Lorem..." MODSEQ (...))
a< OK ...
a> FETCH 1 PREVIEW (CHANGEDSINCE 1)
a< * 1 FETCH (PREVIEW "Lorem..." MODSEQ (...))
a< OK ...
a> SEARCH RETURN (SAVE) SUBJECT plain
a< OK ...
a> FETCH $ (UID PREVIEW (LAZY))
a< * 1 FETCH (UID 1 PREVIEW "Lorem...")
a< OK ...

== only quotes are better than nothing
a> APPEND INBOX {40+}
a>= "Subject: q\r\n\r\n> only this\r\n>> and that\r\n\r\n"
a< OK ...
a> FETCH 2 PREVIEW
a< * 2 FETCH (PREVIEW "> only this >> and that")
a< OK ...

== at most 200 characters, not octets; UTF-8 as a literal, or in quotes for who asked
a> APPEND INBOX {661+}
a>= "Content-Type: text/plain; charset=utf-8\r\n\r\n"
a>= "\xe2\x82\xac" x 206
a>= "\r\n"
a< OK ...
a> FETCH 3 PREVIEW
a< * 3 FETCH (PREVIEW {600})
a< OK ...
client b as alice
b> ENABLE IMAP4rev2
b< * ENABLED IMAP4rev2
b< OK ...
b> SELECT INBOX
b< OK ...
b> FETCH 3 PREVIEW
b< * 3 FETCH (PREVIEW /(\xe2\x82\xac){200}/)
b< OK ...

== multipart/alternative: the plain one; charset and encoding undone
a> APPEND INBOX {288+}
a>= "Content-Type: multipart/alternative; boundary=b\r\n\r\npreamble\r\n--b\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nGr=FC=DFe an=\r\n alle\r\n"
a>= "--b\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\nPGI+aHRtbDwvYj4=\r\n--b--\r\n\r\n"
a< OK ...
a> FETCH 4 PREVIEW
a< * 4 FETCH (PREVIEW /Gr\xc3\xbc\xc3\x9fe.an.alle/)
a< OK ...

== HTML: no markup, no style, entities; an attachment is not looked at
a> APPEND INBOX {509+}
a>= "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\nContent-Disposition: attachment\r\n\r\nattached\r\n--b\r\nContent-Type: text/html\r\n\r\n"
a>= "<!DOCTYPE html><html><head><title>T</title><style>p { color: red }</style></head>\r\n<body title=\"a > b\"><!-- no <b>comment</b> -->\r\n<p>Fish&nbsp;&amp;&nbsp;chips</p><p>f<b>o</b>o&#8217;s <a href='x'>link</a><br>2 < 3 &unknown; &lt;ok&gt;&#x21;</p>\r\n"
a>= "<blockquote>quoted</blockquote><script>var x = '<p>no</p>';</script><div>end\xe2</div>\r\n"
a>= "</body></html>\r\n--b--\r\n\r\n"
a< OK ...
a> FETCH 5 PREVIEW
a< * 5 FETCH (PREVIEW /Fish & chips foo\xe2\x80\x99s link 2 < 3 &unknown; <ok>! end/)
a< OK ...

== nothing to say: the empty string, never NIL
a> APPEND INBOX {76+}
a>= "Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\niVBORw0KGgo=\r\n"
a>= "\r\n"
a< OK ...
a> FETCH 6 PREVIEW
a< * 6 FETCH (PREVIEW "")
a< OK ...
a> APPEND INBOX {17+}
a>= "Subject: none\r\n\r\n\r\n"
a< OK ...
a> FETCH 7 (PREVIEW (LAZY))
a< * 7 FETCH (PREVIEW "")
a< OK ...

== a message inside, when there is nothing before it
a> APPEND INBOX {137+}
a>= "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nthe forwarded one\r\n--b--\r\n.........\r\n\r\n"
a< OK ...
a> FETCH 8 PREVIEW
a< * 8 FETCH (PREVIEW "the forwarded one")
a< OK ...

== a large one is only read at its beginning; grammar
a> APPEND INBOX {200000+}
a>= "Subject: large\r\n\r\n"
a>= "words and " x 19998
a>= "\r\n\r\n"
a< OK ...
a> FETCH 9 PREVIEW
a< * 9 FETCH (PREVIEW /(words and ){19}words and/)
a< OK ...
a> FETCH 1 PREVIEW (EAGER)
a< BAD ...
a> FETCH 1 (PREVIEW (LAZY EAGER))
a< BAD ...
a> FETCH 1 (PREVIEW ())
a< BAD ...
a> UID FETCH 1,6 (UID PREVIEW (LAZY) FLAGS)
a< * 1 FETCH (UID 1 FLAGS (...) PREVIEW "Lorem..." MODSEQ (...))
a< * 6 FETCH (UID 6 FLAGS (...) PREVIEW "" MODSEQ (...))
a< OK ...
