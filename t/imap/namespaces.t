#!t/transcript
# The classic namespace: INBOX.box, user.joe.box, shared names at the top; and options that change what is shown.
config altnamespace: no
config unixhierarchysep: no
config literalminus: yes
config specialusealways: no
config delete_mode: immediate
config anyoneuseracl: no
needs LITERAL-
covers NAMESPACE

== names
a> NAMESPACE
a< * NAMESPACE (("INBOX." ".")) (("user." ".")) (("" "."))
a< OK ...
a> CREATE INBOX.Sent (USE (\Sent))
a< OK ...
a> CREATE INBOX.a.b
a< OK ...
a> CREATE Sent
a< NO [NOPERM] ...
a> CREATE INBOX.INBOX
a< NO ...
a> CREATE inbox.lower.
a< OK ...
a> LIST "" *
a< * LIST (\HasChildren) "." INBOX
a< * LIST (\HasNoChildren) "." INBOX.Sent
a< * LIST (\HasChildren) "." INBOX.a
a< * LIST (\HasNoChildren) "." INBOX.a.b
a< * LIST (\HasNoChildren) "." INBOX.lower
a< OK ...
a> LIST "" %
a< * LIST (\HasChildren) "." INBOX
a! * LIST ... INBOX.Sent
a< OK ...
a> LIST INBOX. %
a< * LIST (\HasNoChildren) "." INBOX.Sent
a< * LIST (\HasChildren) "." INBOX.a
a! * LIST ... INBOX
a< OK ...
a> LIST "" *
a! * LIST (\HasNoChildren \Sent) ...
a< OK ...
a> LIST "" INBOX.S* RETURN (SPECIAL-USE)
a< * LIST (\HasNoChildren \Sent) "." INBOX.Sent
a< OK ...

== a dot in a user's name is told apart from the separator (^)
user jo.e
client j as jo.e
j> CREATE INBOX.x
j< OK ...
j> SETACL INBOX.x alice lr
j< OK ...
j> SETACL INBOX.x anyone lr
j< NO [NOPERM] ...
a> LIST "" user.*
a< * LIST (\HasNoChildren) "." user.jo^e.x
a! * LIST ... user.jo^e
a< OK ...
a> LIST "" user.%
a< * LIST (\Noselect \HasChildren) "." user.jo^e
a< OK ...
a> LIST "" us%
a< * LIST (\Noselect \HasChildren) "." user
a< OK ...
a> STATUS user.jo^e.x (MESSAGES)
a< * STATUS user.jo^e.x (MESSAGES 0)
a< OK ...

== subscriptions and LSUB
a> SUBSCRIBE INBOX.a.b
a< OK ...
a> SUBSCRIBE user.jo^e.x
a< OK ...
a> LSUB "" %
a< * LSUB () "." INBOX                                # subscribed when it was made
a< * LSUB (\Noselect) "." user
a< OK ...
a> LSUB "" *
a< * LSUB () "." INBOX.a.b
a< * LSUB () "." user.jo^e.x
a< OK ...
a> LIST (SUBSCRIBED RECURSIVEMATCH) "" INBOX.%
a< * LIST (\HasChildren) "." INBOX.a ("CHILDINFO" ("SUBSCRIBED"))
a! * LIST ... INBOX.Sent
a< OK ...
a> DELETE INBOX.a.b
a< OK ...
a> LIST (SUBSCRIBED) "" *
a< * LIST (\NonExistent \HasNoChildren \Subscribed) "." INBOX.a.b
a< OK ...

== LITERAL-: 4096 octets without waiting, no more (RFC 7888 5)
a> STATUS {5+}
a>> INBOX (MESSAGES)
a< * STATUS INBOX (MESSAGES 0)
a< OK ...
a> APPEND INBOX {4097+}
a>= "x" x 4097
a>> 
a< BAD ...
a> NOOP
a< OK ...

== LIST's bounds
a> LIST "" "%%%%%%%%%%"
a< * LIST ... INBOX
a< OK ...
a>= "w LIST \"\" \""
a>= "%a" x 201
a>> "
a<< w BAD ...
a>= "v LIST \"\" \""
a>= "a" x 4097
a>> "
a<< v BAD ...
a> LIST "" (() *)
a< BAD ...
