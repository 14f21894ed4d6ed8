#!t/transcript
# Holes that other servers had: what tells that a hidden mailbox exists, or what is in it
client b as bob
client z as admin
mailbox Secret 3 messages
mailbox Secret/Deep 1 messages
mailbox Seen 2 messages
mailbox INBOX 1 messages as bob
a> SETACL Seen bob l
a< OK ...
a> SETMETADATA Secret (/shared/comment "hush" /private/comment "mine")
a< OK ...
a> SETMETADATA Seen (/shared/comment "hush")
a< OK ...

== the commands of the ACL: the same words for hidden and missing
b> LISTRIGHTS "Other Users/alice/Secret" bob
b< NO [NONEXISTENT] Mailbox does not exist
b> LISTRIGHTS "Other Users/alice/Nothin" bob
b< NO [NONEXISTENT] Mailbox does not exist
b> LISTRIGHTS "Other Users/alice/Secret" alice
b< NO [NONEXISTENT] Mailbox does not exist
b> GETACL "Other Users/alice/Secret"
b< NO [NONEXISTENT] Mailbox does not exist
b> MYRIGHTS "Other Users/alice/Secret"
b< NO [NONEXISTENT] Mailbox does not exist
b> MYRIGHTS "Other Users/alice/Nothin"
b< NO [NONEXISTENT] Mailbox does not exist
b> SETACL "Other Users/alice/Secret" bob lr
b< NO [NONEXISTENT] Mailbox does not exist
b> SETACL "Other Users/alice/Secret" bob lr nonsense
b< NO [NONEXISTENT] Mailbox does not exist
b> SETACL "Other Users/alice/Nothin" bob lr nonsense
b< NO [NONEXISTENT] Mailbox does not exist
b> DELETEACL "Other Users/alice/Secret" alice
b< NO [NONEXISTENT] Mailbox does not exist

== metadata
b> GETMETADATA "Other Users/alice/Secret" (/shared/comment)
b< NO [NONEXISTENT] Mailbox does not exist
b> GETMETADATA "Other Users/alice/Nothin" (/shared/comment)
b< NO [NONEXISTENT] Mailbox does not exist
b> GETMETADATA (MAXSIZE 1) "Other Users/alice/Secret" (/shared/comment)
b< NO [NONEXISTENT] Mailbox does not exist
b> SETMETADATA "Other Users/alice/Secret" (/shared/nonsense "x")
b< NO [NONEXISTENT] Mailbox does not exist
b> SETMETADATA "Other Users/alice/Nothin" (/shared/nonsense "x")
b< NO [NONEXISTENT] Mailbox does not exist
b> GETMETADATA "Other Users/alice/Seen" (/shared/comment)
b< NO [NOPERM] ...

== LIST, its options, LSUB, XLIST: names, STATUS, MYRIGHTS, METADATA, \HasChildren
b> LIST "" *
b< * LIST ... "Other Users/alice/Seen"
b! * LIST ... /.*Secret.*/
b< OK ...
b> LIST "" "Other Users/%"
b< * LIST (\Noselect \HasChildren) "/" "Other Users/alice"
b< OK ...
b> LIST "" "Other Users/alice/Secret"
b! * LIST ...
b< OK ...
b> LIST "" "Other Users/alice/Secret/%"
b! * LIST ...
b< OK ...
b> LIST (REMOTE) "" "Other Users/alice/*" RETURN (SUBSCRIBED CHILDREN STATUS (MESSAGES UIDNEXT SIZE) MYRIGHTS METADATA (/shared/comment))
b< * LIST (\Noselect \HasNoChildren) "/" "Other Users/alice/Seen"
b< * MYRIGHTS "Other Users/alice/Seen" l
b! * STATUS ...
b! * METADATA ...
b! * LIST ... /.*Secret.*/
b< OK ...
b> XLIST "" "Other Users/*"
b! * XLIST ... /.*Secret.*/
b< OK ...
b> RLIST "" "Other Users/*"
b! * LIST ... /.*Secret.*/
b< OK ...

== subscribing finds nothing out, and a subscription from better days tells nothing
b> SUBSCRIBE "Other Users/alice/Secret"
b< NO [NONEXISTENT] Mailbox does not exist
b> SUBSCRIBE "Other Users/alice/Nothin"
b< NO [NONEXISTENT] Mailbox does not exist
b> UNSUBSCRIBE "Other Users/alice/Secret"
b< OK ...
b> UNSUBSCRIBE "Other Users/alice/Nothin"
b< OK ...
a> SETACL Secret bob lr
a< OK ...
a> CREATE Nothin
a< OK ...
a> SETACL Nothin bob lr
a< OK ...
b> SUBSCRIBE "Other Users/alice/Secret"
b< OK ...
b> SUBSCRIBE "Other Users/alice/Nothin"
b< OK ...
a> DELETEACL Secret bob
a< OK ...
a> DELETE Nothin
a< OK ...
b> LSUB "" "Other Users/*"
b< * LSUB (\Noselect) "/" "Other Users/alice/Nothin"
b< * LSUB (\Noselect) "/" "Other Users/alice/Secret"
b< OK ...
b> LIST (SUBSCRIBED) "" "Other Users/*" RETURN (STATUS (MESSAGES) MYRIGHTS METADATA (/shared/comment))
b< * LIST (\NonExistent \HasNoChildren \Subscribed) "/" "Other Users/alice/Nothin"
b< * LIST (\NonExistent \HasNoChildren \Subscribed) "/" "Other Users/alice/Secret"
b! * STATUS ...
b! * MYRIGHTS ...
b! * METADATA ...
b< OK ...
b> ESEARCH IN (subscribed) ALL
b! * ESEARCH ... /.*Secret.*/
b< OK ...
b> UNSUBSCRIBE "Other Users/alice/Secret"
b< OK ...
b> UNSUBSCRIBE "Other Users/alice/Nothin"
b< OK ...

== ESEARCH in several mailboxes: none without the r right, however it is named (RFC 7377 2.2)
b> ESEARCH IN (mailboxes ("Other Users/alice/Secret" "Other Users/alice/Nothin" "Other Users/alice/Seen")) ALL
b! * ESEARCH ...
b< OK ...
b> ESEARCH IN (subtree "Other Users/alice" subtree-one "Other Users/alice/Secret" personal inboxes) ALL
b< * ESEARCH (TAG ... MAILBOX INBOX ...) UID ALL 1
b! * ESEARCH ... /.*Secret.*/
b! * ESEARCH ... /.*Seen.*/
b< OK ...
b> ESEARCH IN (mailboxes "Other Users/alice/Seen") RETURN (COUNT MIN MAX) ALL
b! * ESEARCH ...
b< OK ...
a> SETACL Seen bob r
a< OK ...
b> ESEARCH IN (subtree "Other Users/alice") ALL
b! * ESEARCH ...
b< OK ...
b> ESEARCH IN (mailboxes "Other Users/alice/Seen") ALL
b< * ESEARCH (TAG ... MAILBOX "Other Users/alice/Seen" ...) UID ALL 1:2
b< OK ...
a> SETACL Seen bob l
a< OK ...

== names made below or beside hidden ones
b> CREATE "Other Users/alice/Secret/x"
b< NO [NOPERM] Permission denied
b> CREATE "Other Users/alice/Nothin/x"
b< NO [NOPERM] Permission denied
b> CREATE "Other Users/alice/Secret"
b< NO [NOPERM] Permission denied
b> CREATE "Other Users/alice/Nothin"
b< NO [NOPERM] Permission denied
b> CREATE mine
b< OK ...
a> CREATE Beside
a< OK ...
a> CREATE Beside/Secret/Deep
a< OK ...
a> SETACL Beside bob lrkx
a< OK ...
a> DELETEACL Beside/Secret/Deep bob
a< OK ...
a> DELETEACL Beside/Secret bob
a< ...
b> CREATE "Other Users/alice/Beside/Secret/Deep"
b< NO [NOPERM] Permission denied
b> CREATE "Other Users/alice/Beside/b"
b< OK ...
b> RENAME "Other Users/alice/Beside/b" "Other Users/alice/Beside/Secret/Deep"
b< NO [NOPERM] Permission denied
b> CREATE "Other Users/alice/Beside/b"
b< NO [ALREADYEXISTS] ...
b> RENAME mine "Other Users/alice/Secret"
b< NO [NOPERM] Permission denied
b> RENAME mine "Other Users/alice/Nothin"
b< NO [NOPERM] Permission denied
b> RENAME mine "Other Users/alice/Secret/x"
b< NO [NOPERM] Permission denied
b> APPEND "Other Users/alice/Secret" {1}
b< NO [NONEXISTENT] Mailbox does not exist
b> APPEND "Other Users/alice/Nothin" {1}
b< NO [NONEXISTENT] Mailbox does not exist
b> APPEND "Other Users/alice/Secret" {100000000}
b< NO [NONEXISTENT] Mailbox does not exist
b> APPEND "Other Users/alice/Nothin" {100000000}
b< NO [NONEXISTENT] Mailbox does not exist

== quota of what is hidden
z> SETQUOTA user/alice/Secret (STORAGE 100)
z< OK ...
b> GETQUOTA "Other Users/alice/Secret"
b< NO [NONEXISTENT] Quota root does not exist
b> GETQUOTA "Other Users/alice/Nothin"
b< NO [NONEXISTENT] Quota root does not exist
b> GETQUOTAROOT "Other Users/alice/Secret"
b< NO [NONEXISTENT] Mailbox does not exist
b> GETQUOTAROOT "Other Users/alice/Secret/Deep"
b< NO [NONEXISTENT] Mailbox does not exist
b> GETQUOTAROOT "Other Users/alice/Seen"
b< NO [NOPERM] ...

== objects: an id found elsewhere leads nowhere, and STATUS tells none
a> STATUS Secret (MAILBOXID)
a< * STATUS Secret (MAILBOXID ($id))
a< OK ...
b> SELECT $id
b< NO [NONEXISTENT] ...
b> STATUS "Other Users/alice/Secret" (MAILBOXID UIDVALIDITY)
b< NO [NONEXISTENT] Mailbox does not exist
b> STATUS "Other Users/alice/Seen" (MAILBOXID)
b< NO [NOPERM] ...
a> SELECT Secret
a< * OK [MAILBOXID ($id)] ...
a< OK ...
a> FETCH 1 (EMAILID THREADID)
a< * 1 FETCH (EMAILID ($e) THREADID ($t))
a< OK ...
b> SELECT INBOX
b< OK ...
b> SEARCH OR EMAILID $e THREADID $t
b< * SEARCH 1                                           # his own copy of it, and that alone
b< OK ...

== a hidden mailbox below: \HasChildren does not tell, DELETE leaves it, RENAME of the rest takes it along unseen
mailbox Tree 0 messages
mailbox Tree/Hidden 1 messages
a> SETACL Tree bob lrxk
a< OK ...
a> DELETEACL Tree/Hidden bob
a< OK ...
b> LIST "" "Other Users/alice/Tree*"
b< * LIST (\HasNoChildren) "/" "Other Users/alice/Tree"
b< OK ...
a> SETACL INBOX bob k
a< OK ...
b> RENAME "Other Users/alice/Tree" "Other Users/alice/Bush"
b< OK ...
b> LIST "" "Other Users/alice/*"
b< * LIST (\HasNoChildren) "/" "Other Users/alice/Bush"
b! * LIST ... /.*Hidden.*/
b< OK ...
a> STATUS Bush/Hidden (MESSAGES)
a< * STATUS Bush/Hidden (MESSAGES 1)
a< OK ...
b> DELETE "Other Users/alice/Bush"
b< OK ...
b> LIST "" "Other Users/alice/*"
b! * LIST ... /.*Bush.*/
b< OK ...
a> STATUS Bush/Hidden (MESSAGES)
a< * STATUS Bush/Hidden (MESSAGES 1)
a< OK ...
