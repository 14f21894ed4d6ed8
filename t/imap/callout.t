#!t/transcript
# annotation_callout: a program or a socket adds flags and annotations to messages that arrive, and takes flags away; Cyrus's protocol
config annotation_callout: %DIR%/conf/callout
config annotation_allow_undefined: yes
config pop3_annotation_callout_disable_append: yes
service pop3 cmd="imapd" listen="127.0.0.1:%POP3%"
client b as bob
client q raw %POP3%
mailbox In 0 messages
run printf '#!/bin/sh\nread n\nhead -c "$n" > "$0.in"\ncp "$(sed -n "s/.*FILENAME \\"\\([^\\"]*\\)\\".*/\\1/p" "$0.in")" "$0.message"\ncat "$0.answer"\n' > conf/callout; chmod 755 conf/callout; echo '()' > conf/callout.answer
a> SELECT In
a< OK ...

== it is told of the message, of its flags and annotations, its structure and where the octets are
a> APPEND In (\Seen \Flagged kw) ANNOTATION (/comment (value.priv "a" value.shared "b")) {187+}
a>= "Subject: s\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\none\r\n--b\r\nContent-Type: text/html; charset=utf-8\r\nContent-Disposition: attachment; filename=\"q.html\"\r\n\r\n<b>two</b>\r\n--b--\r\n\r\n"
a< OK [APPENDUID $v 1] ...
run grep -aqF ' ANNOTATIONS ("/comment" ("value.priv" "a" "value.shared" "b")) FLAGS (\seen \flagged kw) BODY (("TEXT" "PLAIN" ("CHARSET" "US-ASCII") NIL NIL "7BIT" 3 0 NIL NIL NIL NIL (OFFSET 64 HEADERSIZE 2))("TEXT" "HTML" ("CHARSET" "utf-8") NIL NIL "7BIT" 10 0 NIL ("ATTACHMENT" ("FILENAME" "q.html")) NIL NIL (OFFSET 168 HEADERSIZE 94)) "MIXED" ("BOUNDARY" "b") NIL NIL NIL) GUID ' conf/callout.in || { cat conf/callout.in; exit 1; }
run test "$(head -c 187 conf/callout.message | sha1sum | cut -c1-40)" = "$(sed -n 's/.* GUID \([0-9a-f]*\))/\1/p' conf/callout.in)"
run test -z "$(ls spool/stage.)"
a> UID FETCH 1 (FLAGS ANNOTATION (/comment (value.priv value.shared)))
a< * 1 FETCH (UID 1 FLAGS (\Seen \Flagged kw ...) ANNOTATION (/comment (value.priv "a" value.shared "b")))
a< OK ...

== what it answers: flags one by one or in a list, annotations of both scopes
run echo '(+FLAGS (\Answered New) -FLAGS (kw \Flagged) +FLAGS \Draft ANNOTATION (/comment (value.shared "theirs") (value.priv {4}' > conf/callout.answer; printf 'm"ne)) ANNOTATION (/altsubject (value.shared x)))\n' >> conf/callout.answer; sed -i 's/{4}$/{4}\r/' conf/callout.answer
a> APPEND In (\Seen \Flagged kw) ANNOTATION (/comment (value.priv "a" value.shared "b")) {18+}
a>= "Subject: s\r\n\r\nxy\r\n\r\n"
a< OK [APPENDUID $v 2] ...
a> UID FETCH 2 (FLAGS ANNOTATION ((/comment /altsubject) (value.priv value.shared)))
a< * 2 FETCH (UID 2 FLAGS (\Seen \Answered \Draft New ...) ANNOTATION (/comment (value.priv "m\"ne" value.shared "theirs") /altsubject (value.priv NIL value.shared "x")))
a! * 2 FETCH (... FLAGS (... kw ...) ...)
a< OK ...

== NIL takes away what the client wanted to set; the last one counts
run echo '(ANNOTATION (/comment (value.shared NIL) (value.priv "1")) ANNOTATION (/comment (value.priv "2")))' > conf/callout.answer
a> APPEND In ANNOTATION (/comment (value.priv "a" value.shared "b")) {18+}
a>= "Subject: s\r\n\r\nxy\r\n\r\n"
a< OK [APPENDUID $v 3] ...
a> UID FETCH 3 (ANNOTATION (/comment (value.priv value.shared)))
a< * 3 FETCH (UID 3 ANNOTATION (/comment (value.priv "2" value.shared NIL)))
a< OK ...

== up to what nobody understands it counts; flags and entries that cannot be are left out
run echo '(+FLAGS (\Recent \Bogus ok "not ok") ANNOTATION (/bad/ (value.shared "x")) ANNOTATION (/good (size.shared "3") (value.shared "y")) FOO bar +FLAGS \Seen)' > conf/callout.answer
a> APPEND In {18+}
a>= "Subject: s\r\n\r\nxy\r\n\r\n"
a< OK [APPENDUID $v 4] ...
a> UID FETCH 4 (FLAGS ANNOTATION (/* (value.shared)))
a< * 4 FETCH (UID 4 FLAGS (ok ...) ANNOTATION (/good (value.shared "y")))
a! * 4 FETCH (... FLAGS (... \Seen ...) ...)
a< OK ...

== no answer, garbage, no program: the message comes all the same
run echo 'hello' > conf/callout.answer
a> APPEND In (kept) {18+}
a>= "Subject: s\r\n\r\nxy\r\n\r\n"
a< OK [APPENDUID $v 5] ...
run : > conf/callout.answer
a> APPEND In (kept) {18+}
a>= "Subject: s\r\n\r\nxy\r\n\r\n"
a< OK [APPENDUID $v 6] ...
run printf '(+FLAGS (x' > conf/callout.answer
a> APPEND In (kept) {18+}
a>= "Subject: s\r\n\r\nxy\r\n\r\n"
a< OK [APPENDUID $v 7] ...
run chmod 644 conf/callout
a> APPEND In (kept) {18+}
a>= "Subject: s\r\n\r\nxy\r\n\r\n"
a< OK [APPENDUID $v 8] ...
a> UID FETCH 5:8 FLAGS
a< * 5 FETCH (UID 5 FLAGS (kept ...))
a< * 6 FETCH (UID 6 FLAGS (kept ...))
a< * 7 FETCH (UID 7 FLAGS (kept ...))
a< * 8 FETCH (UID 8 FLAGS (kept ...))
a< OK ...
run test "$(grep -c 'error callout.failed' log)" = 4

== several in one command, CATENATE and REPLACE
run chmod 755 conf/callout; echo '(+FLAGS seen-by-it)' > conf/callout.answer
a> APPEND In {18+}
a>= "Subject: s\r\n\r\nxy\r\n (two) {18+}\r\nSubject: s\r\n\r\nxy\r\n CATENATE (URL \"/In/;UID=1\")\r\n"
a< OK [APPENDUID $v 9:11] ...
a> UID FETCH 9:11 (FLAGS RFC822.SIZE)
a< * 9 FETCH (UID 9 FLAGS (seen-by-it ...) RFC822.SIZE 18)
a< * 10 FETCH (UID 10 FLAGS (two seen-by-it ...) RFC822.SIZE 18)
a< * 11 FETCH (UID 11 FLAGS (seen-by-it ...) RFC822.SIZE 187)
a< OK ...
a> UID REPLACE 9 In {18+}
a>= "Subject: s\r\n\r\nxy\r\n\r\n"
a< * OK [APPENDUID $v 12] ...
a< OK ...
a> UID FETCH 12 FLAGS
a< * 11 FETCH (UID 12 FLAGS (seen-by-it ...))
a< OK ...

== flags that the client may not set are not set for it either; annotations need no right
a> SETACL In bob lri
a< OK ...
run echo '(+FLAGS (\Deleted \Seen kw) ANNOTATION (/comment (value.shared "it") (value.priv "of bob")))' > conf/callout.answer
b> APPEND "Other Users/alice/In" {18+}
b>= "Subject: s\r\n\r\nxy\r\n\r\n"
b< OK [APPENDUID $v 13] ...
b> EXAMINE "Other Users/alice/In"
b< OK ...
b> UID FETCH 13 (FLAGS ANNOTATION (/comment (value.shared value.priv)))
b< * 12 FETCH (UID 13 FLAGS (\Recent) ANNOTATION (/comment (value.shared "it" value.priv "of bob")))
b< OK ...
a> NOOP
a< * 12 EXISTS
a< OK ...
a> UID FETCH 13 (FLAGS ANNOTATION (/comment (value.shared value.priv)))
a< * 12 FETCH (UID 13 FLAGS (...) ANNOTATION (/comment (value.shared "it" value.priv NIL)))
a! * 12 FETCH (... FLAGS (... kw ...) ...)
a< OK ...

== by LMTP: the private ones are the owner's
client l lmtp
run echo '(+FLAGS (\Flagged \Seen $Junk) ANNOTATION (/comment (value.shared "spam") (value.priv "yours")))' > conf/callout.answer
l< 220 ...
l> LHLO x
l< 250 ...
l> MAIL FROM:<x@y>
l< 250 ...
l> RCPT TO:<alice>
l< 250 ...
l> RCPT TO:<bob>
l< 250 ...
l> DATA
l< 354 ...
l>= "Subject: delivered\r\n\r\nhello\r\n.\r\n"
l<< 250 2.1.5 ...
l<< 250 2.1.5 ...
a> SELECT INBOX
a< OK ...
a> FETCH 1 (FLAGS ANNOTATION (/comment (value.shared value.priv)))
a< * 1 FETCH (FLAGS (\Flagged \Seen $Junk ...) ANNOTATION (/comment (value.shared "spam" value.priv "yours")))
a< OK ...
b> SELECT INBOX
b< OK ...
b> FETCH 1 (FLAGS ANNOTATION (/comment (value.shared value.priv)))
b< * 1 FETCH (FLAGS (\Flagged \Seen $Junk ...) ANNOTATION (/comment (value.shared "spam" value.priv "yours")))
b< OK ...
run grep -aqF ' FLAGS () BODY ("TEXT" "PLAIN"' conf/callout.in && grep -aq '^Subject: delivered' conf/callout.message

== one that takes too long is not waited for; other sessions go on meanwhile
run printf '#!/bin/sh\nexec sleep 60\n' > conf/callout
a> APPEND INBOX (waited) {18+}
a>= "Subject: s\r\n\r\nxy\r\n\r\n"
b> STATUS INBOX (MESSAGES)
b< * STATUS INBOX (MESSAGES 1)
b< OK ...
a< OK [APPENDUID ...] ...
a> FETCH 2 FLAGS
a< * 2 FETCH (FLAGS (waited ...))
a< OK ...
run grep -q 'callout.failed.*no answer in 10 seconds' log

== also with annotation_callout_disable_append: that is about XRUNANNOTATOR, as in Cyrus
run printf '#!/bin/sh\nread n\necho "(+FLAGS called)"\n' > conf/callout
q<< * OK ...
q>> a LOGIN alice alice-pw
q<< a OK ...
q>= "b APPEND INBOX {18+}\r\nSubject: s\r\n\r\nxy\r\n\r\n"
q<< b OK ...
a> APPEND INBOX {18+}
a>= "Subject: s\r\n\r\nxy\r\n\r\n"
a< OK [APPENDUID ...] ...
a> FETCH 3:4 FLAGS
a< * 3 FETCH (FLAGS (called ...))
a< * 4 FETCH (FLAGS (called ...))
a< OK ...

== a socket
run rm conf/callout; setsid perl -MIO::Socket::UNIX -e 'alarm 30; my $l = IO::Socket::UNIX->new(Local => "conf/callout", Listen => 1); chmod 0666, "conf/callout"; for (1 .. 2) { my $c = $l->accept; my $n = <$c>; read $c, my $text, $n; my $end = <$c>; print $c "(+FLAGS (", $end eq "0\n" && $text =~ /^\(FILENAME .* GUID \w+\)$/s ? "by-socket" : "bad", "))\n" } unlink "conf/callout"' > /dev/null 2>&1 & for i in 1 2 3 4 5 6 7 8 9 10; do test -S conf/callout && break; sleep 0.1; done
a> APPEND INBOX {18+}
a>= "Subject: s\r\n\r\nxy\r\n (two) {18+}\r\nSubject: s\r\n\r\nxy\r\n\r\n"
a< OK [APPENDUID ...] ...
a> FETCH 5:6 FLAGS
a< * 5 FETCH (FLAGS (by-socket ...))
a< * 6 FETCH (FLAGS (two by-socket ...))
a< OK ...
