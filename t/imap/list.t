#!t/transcript
# LIST and LSUB (RFC 9051 6.3.9, RFC 3501 6.3.9, RFC 5258, RFC 5819, RFC 6154)
covers CHILDREN LIST-EXTENDED LIST-STATUS
a> CREATE Work
a< OK ...
a> CREATE Work/Projects/2024
a< OK ...
a> CREATE Sent (USE (\Sent))
a< OK ...
a> CREATE "with space/"
a< OK ...

== LIST shows what there is
a> LIST "" *
a< * LIST (\HasNoChildren) "/" INBOX
a< * LIST (\HasChildren) "/" Work
a< * LIST (\HasChildren) "/" Work/Projects
a< * LIST (\HasNoChildren) "/" Work/Projects/2024
a< * LIST (\HasNoChildren \Sent) "/" Sent
a< * LIST (\HasNoChildren) "/" "with space"
a< OK ...
a> LIST "" %
a< * LIST (\HasChildren) "/" Work
a! * LIST ... Work/Projects
a! * LIST ... Work/Projects/2024
a< OK ...
a> LIST "" Work/%
a< * LIST (\HasChildren) "/" Work/Projects
a! * LIST ... Work
a< OK ...
a> LIST Work/ %/2*
a< * LIST (\HasNoChildren) "/" Work/Projects/2024
a! * LIST ... Work/Projects
a< OK ...
a> LIST "" inbox
a< * LIST (\HasNoChildren) "/" INBOX
a< OK ...
a> LIST "" Work
a< * LIST (\HasChildren) "/" Work
a! * LIST ... Work/Projects
a< OK ...
a> LIST "" Work/Projects
a< * LIST (\HasChildren) "/" Work/Projects
a< OK ...
a> LIST "" ""
a< * LIST (\Noselect) "/" ""
a< OK ...
a> LIST "" nothing
a! * LIST ...
a< OK ...

== selection and return options
a> SUBSCRIBE Work/Projects/2024
a< OK ...
a> SUBSCRIBE INBOX
a< OK ...
a> SUBSCRIBE nowhere
a< NO [NONEXISTENT] ...
a> LIST (SUBSCRIBED) "" *
a< * LIST (\HasNoChildren \Subscribed) "/" INBOX
a< * LIST (\HasNoChildren \Subscribed) "/" Work/Projects/2024
a! * LIST ... Work
a< OK ...
a> LIST (SUBSCRIBED RECURSIVEMATCH) "" %
a< * LIST (\HasChildren) "/" Work ("CHILDINFO" ("SUBSCRIBED"))
a< * LIST (\HasNoChildren \Subscribed) "/" INBOX
a< OK ...
a> LIST (RECURSIVEMATCH) "" %
a< BAD RECURSIVEMATCH needs SUBSCRIBED
a> LIST (SPECIAL-USE) "" *
a< * LIST (\HasNoChildren \Sent) "/" Sent
a! * LIST ... INBOX
a< OK ...
a> LIST "" (INBOX Work/*) RETURN (SUBSCRIBED CHILDREN)
a< * LIST (\HasNoChildren \Subscribed) "/" INBOX
a< * LIST (\HasNoChildren \Subscribed) "/" Work/Projects/2024
a< * LIST (\HasChildren) "/" Work/Projects
a! * LIST ... Work
a< OK ...
a> LIST "" % RETURN (STATUS (MESSAGES UIDNEXT UIDVALIDITY))
a< * STATUS INBOX (MESSAGES 0 UIDNEXT 1 UIDVALIDITY $v)
a< * STATUS Work (UIDNEXT 1 MESSAGES 0 ...)
a< * STATUS "with space" (...)
a! * STATUS Work/Projects ...
a< OK ...
a> LIST (NONSENSE) "" *
a< BAD ...
a> LIST "" * RETURN (NONSENSE)
a< BAD ...
a> LIST "" * RETURN (STATUS ())
a< BAD ...

== LSUB
a> LSUB "" *
a< * LSUB () "/" INBOX
a< * LSUB () "/" Work/Projects/2024
a! * LSUB (\Noselect) "/" Work
a< OK ...
a> LSUB "" %
a< * LSUB () "/" INBOX
a< * LSUB (\Noselect) "/" Work
a< OK ...
a> UNSUBSCRIBE Work/Projects/2024
a< OK ...
a> LSUB "" *
a! * LSUB ... Work/Projects/2024
a< OK ...
a> UNSUBSCRIBE nowhere
a< OK ...

== names in modified UTF-7 and in UTF-8
a> CREATE "Entw&APw-rfe"
a< OK ...
a> CREATE "bad&name"
a< NO [CANNOT] ...
b> ENABLE IMAP4rev2
b< * ENABLED IMAP4rev2
b< OK ...
b> LIST "" Entw*
b< * LIST (\HasNoChildren) "/" "Entwürfe"
b< OK ...
b> CREATE "Grüße"
b< OK ...
a> LIST "" Gr*
a< * LIST (\HasNoChildren) "/" Gr&APwA3w-e
a< OK ...
b> LIST "" Work/Pro%
b< * LIST (\HasChildren) "/" Work/Projects
b< OK ...
b> CREATE "Étoile"
b< * LIST () "/" "Étoile" ("OLDNAME" ("Étoile"))
b< OK ...

== admins see user/joe, other users' mailboxes stay hidden without rights
client z as admin
z> LIST "" %
z< * LIST (\Noselect \HasChildren) "/" user
z< OK ...
z> LIST "" user/%
z< * LIST (\HasChildren) "/" user/alice
z< OK ...
client o as bob
o> LIST "" *
o< * LIST (\HasNoChildren) "/" INBOX
o! * LIST ... "Other Users/alice"
o! * LIST ... Work
o< OK ...
a> SETACL Work bob lr
a< OK ...
# What is no mailbox, only above some, is matched by % and by its own name, not by * (RFC 3501 6.3.8, RFC 5258 3).
o> LIST "" *
o! * LIST ... "Other Users/alice"
o! * LIST ... "Other Users"
o< * LIST (\HasNoChildren) "/" "Other Users/alice/Work"
o< OK ...
o> LIST "" "Other Users*"
o! * LIST ... "Other Users/alice"
o! * LIST ... "Other Users"
o< * LIST (\HasNoChildren) "/" "Other Users/alice/Work"
o< OK ...
o> LIST "" %
o< * LIST (\Noselect \HasChildren) "/" "Other Users"
o< OK ...
o> LIST "" (% %/%)
o< * LIST (\NonExistent \HasChildren) "/" "Other Users/alice"
o< * LIST (\NonExistent \HasChildren) "/" "Other Users"
o< OK ...
o> LIST "" "Other Users/alice"
o< * LIST (\Noselect \HasChildren) "/" "Other Users/alice"
o< OK ...
