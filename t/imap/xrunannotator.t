#!t/transcript
# XRUNANNOTATOR, Cyrus's: annotation_callout is told again of messages that are there
config annotation_callout: %DIR%/conf/callout
config annotation_allow_undefined: yes
config pop3_annotation_callout_disable_append: yes
service pop3 cmd="imapd" listen="127.0.0.1:%POP3%"
client b as bob
client c as alice
client q raw %POP3%
run printf '#!/bin/sh\nread n\nhead -c "$n" > "$0.in"\ncp "$(sed -n "s/.*FILENAME \\"\\([^\\"]*\\)\\".*/\\1/p" "$0.in")" "$0.message"\necho >> "$0.calls"\ncat "$0.answer"\n' > conf/callout; chmod 755 conf/callout; echo '()' > conf/callout.answer
a> CREATE In
a< OK ...
a> APPEND In (\Flagged kw) ANNOTATION (/comment (value.priv "mine" value.shared "ours")) {18+}
a>= "Subject: 1\r\n\r\nxy\r\n (\\Seen) {18+}\r\nSubject: 2\r\n\r\nxy\r\n {18+}\r\nSubject: 3\r\n\r\nxy\r\n\r\n"
a< OK [APPENDUID $v 1:3] ...
a> SELECT In (ANNOTATE)
a< OK ...
c> SELECT In (CONDSTORE)
c< * OK [HIGHESTMODSEQ $m0] ...
c< OK ...

== it is told of the message as it is: flags, annotations, octets
run : > conf/callout.calls
a> XRUNANNOTATOR 1
a! * 1 FETCH ...
a< OK ...
run test "$(wc -l < conf/callout.calls)" = 1
run grep -aqF ' ANNOTATIONS ("/comment" ("value.shared" "ours" "value.priv" "mine")) FLAGS (\flagged kw) BODY ("TEXT" "PLAIN"' conf/callout.in || { cat conf/callout.in; exit 1; }
run printf 'Subject: 1\r\n\r\nxy\r\n' | cmp - conf/callout.message
run test -z "$(ls spool/stage.)"

== what it wants otherwise is changed, and told to all as any change; other messages are left alone
run echo '(+FLAGS (\Answered New) -FLAGS (kw \Flagged) ANNOTATION (/comment (value.shared "theirs") (value.priv NIL)) ANNOTATION (/altsubject (value.shared x)))' > conf/callout.answer
a> XRUNANNOTATOR 1
a< * 1 FETCH (FLAGS (\Answered New ...) ANNOTATION (/altsubject /comment))
a! * 1 FETCH (... FLAGS (... kw ...) ...)
a! * 1 FETCH (... FLAGS (... \Flagged ...) ...)
a< OK ...
c> NOOP
c< * 1 FETCH (UID 1 FLAGS (\Answered New ...) MODSEQ ($m1))
c! * 2 FETCH ...
c< OK ...
where $m1 > $m0
a> FETCH 1:3 (FLAGS ANNOTATION ((/comment /altsubject) (value.priv value.shared)))
a< * 1 FETCH (FLAGS (\Answered New ...) ANNOTATION (/comment (value.priv NIL value.shared "theirs") /altsubject (value.priv NIL value.shared "x")))
a< * 2 FETCH (FLAGS (\Seen ...) ANNOTATION (/comment (value.priv NIL value.shared NIL) /altsubject (value.priv NIL value.shared NIL)))
a< * 3 FETCH (FLAGS (...) ANNOTATION (/comment (value.priv NIL value.shared NIL) /altsubject (value.priv NIL value.shared NIL)))
a< OK ...

== once more: nothing is left to be changed, and nothing is
a> XRUNANNOTATOR 1
a! * 1 FETCH ...
a< OK ...
c> FETCH 1 (MODSEQ)
c< * 1 FETCH (MODSEQ ($m1) ...)
c< OK ...

== several, by UID; UIDs that are not there
run echo '(+FLAGS (again))' > conf/callout.answer; : > conf/callout.calls
a> UID XRUNANNOTATOR 2:99
a< * 2 FETCH (UID 2 FLAGS (\Seen again ...))
a< * 3 FETCH (UID 3 FLAGS (again ...))
a< OK ...
run test "$(wc -l < conf/callout.calls)" = 2
a> UID XRUNANNOTATOR 77
a< OK ...
a> UID SEARCH RETURN (SAVE) KEYWORD again
a< OK ...
run echo '(-FLAGS (again))' > conf/callout.answer
c> NOOP
c< OK ...
a> XRUNANNOTATOR $
a< * 2 FETCH (FLAGS (\Seen ...))
a< * 3 FETCH (FLAGS (...))
a< OK ...

== what it was told may be old by the time it answers: what others do meanwhile stays
run printf '#!/bin/sh\nread n\n: > "$0.asked"\nwhile ! test -e "$0.go"; do sleep 0.05; done\necho "(+FLAGS slow -FLAGS late)"\n' > conf/callout
a> XRUNANNOTATOR 3
run while ! test -e conf/callout.asked; do sleep 0.05; done
c> STORE 3 +FLAGS (\Flagged late)
c< * 3 FETCH (... FLAGS (\Flagged late ...) ...)
c< OK ...
run : > conf/callout.go
a< * 3 FETCH (FLAGS (\Flagged late slow ...))
a< OK ...

== an expunged message, while it is asked about another: no matter, and no expunge is told before the end
run rm conf/callout.asked conf/callout.go
a> XRUNANNOTATOR 2:3
run while ! test -e conf/callout.asked; do sleep 0.05; done
c> STORE 3 +FLAGS.SILENT (\Deleted)
c< OK ...
c> UID EXPUNGE 3
c< * 3 EXPUNGE
c< OK ...
run : > conf/callout.go
a< * 2 FETCH (FLAGS (\Seen slow ...))
a! * 3 EXPUNGE
a< NO [EXPUNGEISSUED] ...
a> NOOP
a< * 3 EXPUNGE
a< OK ...

== no answer: the command ends there, says so, and the messages stay as they are
run printf '#!/bin/sh\necho >> "$0.calls"\necho garbage\n' > conf/callout; : > conf/callout.calls
a> XRUNANNOTATOR 1:2
a! * 1 FETCH ...
a< NO [UNAVAILABLE] ...
run test "$(wc -l < conf/callout.calls)" = 1 && grep -q 'error callout.failed' log
run chmod 644 conf/callout
a> XRUNANNOTATOR 1
a< NO [UNAVAILABLE] ...
a> FETCH 1:2 FLAGS
a< * 1 FETCH (FLAGS (\Answered New ...))
a< * 2 FETCH (FLAGS (\Seen slow ...))
a< OK ...

== arguments
a> XRUNANNOTATOR
a< BAD ...
a> XRUNANNOTATOR 1 2
a< BAD ...
a> XRUNANNOTATOR 99
a< BAD ...
a> XRUNANNOTATOR x
a< BAD ...
a> XRUNANNOTATOR {1+}
a>> 1
a< BAD ...

== rights: w or n; flags that the user may not set are left as they are, annotations are the program's
run chmod 755 conf/callout; printf '#!/bin/sh\nread n\necho "(+FLAGS (\\\\Deleted \\\\Seen \\\\Draft kw2) -FLAGS New ANNOTATION (/comment (value.shared bobs) (value.priv private)))"\n' > conf/callout
a> SETACL In bob lrs
a< OK ...
b> SELECT "Other Users/alice/In"
b< OK ...
b> XRUNANNOTATOR 1
b< NO [NOPERM] ...
a> SETACL In bob lrsn
a< OK ...
b> XRUNANNOTATOR 1
b< * 1 FETCH (FLAGS (\Answered New \Seen ...))
b! * 1 FETCH (... FLAGS (... kw2 ...) ...)
b! * 1 FETCH (... FLAGS (... \Deleted ...) ...)
b! * 1 FETCH (... FLAGS (... \Draft ...) ...)
b< OK ...
b> FETCH 1 (FLAGS ANNOTATION (/comment (value.priv value.shared)))
b< * 1 FETCH (FLAGS (\Answered New \Seen ...) ANNOTATION (/comment (value.priv "private" value.shared "bobs")))
b< OK ...
a> FETCH 1 (FLAGS ANNOTATION (/comment (value.priv value.shared)))
a< * 1 FETCH (FLAGS (\Answered New ...) ANNOTATION (/comment (value.priv NIL value.shared "bobs")))
a! * 1 FETCH (... FLAGS (... \Seen ...) ...)
a< OK ...
a> SETACL In bob lrwt
a< OK ...
b> UID XRUNANNOTATOR 2
b< * 2 FETCH (UID 2 FLAGS (\Deleted \Draft kw2 slow ...))
b! * 2 FETCH (... FLAGS (... \Seen ...) ...)
b< OK ...
b> EXAMINE "Other Users/alice/In"
b< OK ...
b> XRUNANNOTATOR 1
b< NO [READ-ONLY] ...
b> UNSELECT
b< OK ...
b> XRUNANNOTATOR 1
b< BAD ...

== the right is taken away while it is asked: it ends there
run printf '#!/bin/sh\nread n\n: > "$0.asked"\nwhile ! test -e "$0.go"; do sleep 0.05; done\necho "(+FLAGS kw3)"\n' > conf/callout; rm -f conf/callout.asked conf/callout.go
b> SELECT "Other Users/alice/In"
b< OK ...
b> XRUNANNOTATOR 1:2
run while ! test -e conf/callout.asked; do sleep 0.05; done
a> SETACL In bob lrs
a< OK ...
run : > conf/callout.go
b< NO [NOPERM] ...
a> SEARCH 2 KEYWORD kw3
a< * SEARCH
a< OK ...

== with annotation_callout_disable_append nothing is done, and that is OK
run printf '#!/bin/sh\nread n\necho "(+FLAGS (called))"\n' > conf/callout
q<< * OK ...
q>> a LOGIN alice alice-pw
q<< a OK ...
q>> b SELECT In
q<< b OK ...
q>> c XRUNANNOTATOR 1:*
q<< c OK ...
a> SEARCH KEYWORD called
a< * SEARCH
a< OK ...
a> XRUNANNOTATOR 1
a< * 1 FETCH (FLAGS (called ...) ...)
a< OK ...
