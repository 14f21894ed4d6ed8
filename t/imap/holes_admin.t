#!t/transcript
# Holes that other servers had: what is an administrator's, asked for by somebody else – in any spelling, state and disguise
config proxyservers: proxy
config allowanonymouslogin: yes
config sasl_mech_list: PLAIN ANONYMOUS
config partition-other: %DIR%/spool2
user proxy
client z as admin
client b as bob
client p as proxy
client n raw
n<< * OK ...
n> AUTHENTICATE ANONYMOUS Z3Vlc3Q=
n< OK ...
a> NOOP
a< OK ...
b> NOOP
b< OK ...
z> SETQUOTA user/alice (STORAGE 1000)
z< OK ...
z> SETQUOTA user/bob (STORAGE 1000)
z< OK ...

== SETQUOTA: one's own root, another's, a hidden one, none at all; the answer tells nothing
b> SETQUOTA INBOX (STORAGE 999999)
b< NO [NOPERM] Permission denied
b> SETQUOTA "Other Users/alice" (STORAGE 1)
b< NO [NOPERM] Permission denied
b> SETQUOTA "Other Users/nobody" (STORAGE 1)
b< NO [NOPERM] Permission denied
b> setquota "INBOX" ()
b< NO [NOPERM] Permission denied
b> SETQUOTA INBOX (nonsense
b< NO [NOPERM] Permission denied
b> SELECT INBOX
b< OK ...
b> SETQUOTA {5+}
b>> INBOX (STORAGE 999999)
b< NO [NOPERM] Permission denied
p> SETQUOTA "Other Users/bob" (STORAGE 999999)
p< NO [NOPERM] Permission denied
n> SETQUOTA "Other Users/bob" (STORAGE 999999)
n< NO [NOPERM] Permission denied
b> GETQUOTA INBOX
b< * QUOTA INBOX (STORAGE 0 1000)
b< OK ...

== quota roots of others, and whether there are any
b> GETQUOTA "Other Users/alice"
b< NO [NONEXISTENT] Quota root does not exist
b> GETQUOTA "Other Users/nobody"
b< NO [NONEXISTENT] Quota root does not exist
b> GETQUOTAROOT "Other Users/alice"
b< NO [NONEXISTENT] Mailbox does not exist
b> GETQUOTAROOT "Other Users/nobody"
b< NO [NONEXISTENT] Mailbox does not exist
b> GETQUOTA user/alice
b< NO [NONEXISTENT] Quota root does not exist
n> GETQUOTA "Other Users/alice"
n< NO [NONEXISTENT] Quota root does not exist

== partitions
b> CREATE here other
b< NO [NOPERM] ...
b> CREATE here (PARTITION other)
b< NO [NOPERM] ...
b> CREATE here (PARTITION nowhere)
b< NO [NOPERM] ...
b> RENAME INBOX moved other
b< NO [NOPERM] ...
b> RENAME INBOX INBOX other
b< NO [NOPERM] ...
b> LIST "" *
b! * LIST ... here
b! * LIST ... moved
b< OK ...

== shared entries of the server, its message of the day
b> SETMETADATA "" (/shared/comment "mine")
b< NO [NOPERM] ...
b> SETMETADATA "" (/shared/motd "Do call 555-1234")
b< NO ...
b> SETMETADATA "" (/shared/vendor/cmu/cyrus-imapd/motd "Do call 555-1234")
b< NO ...
b> SETMETADATA "" (/shared/vendor/cmu/cyrus-imapd/shutdown "now")
b< NO ...
b> SETMETADATA "" (/private/comment "mine" /shared/comment "mine")
b< NO [NOPERM] ...
z> GETMETADATA "" (/shared/comment /private/comment)
z! * METADATA ... "mine"
z< OK ...
b> GETMETADATA "" (/private/comment)
b! * METADATA ... "mine"
b< OK ...

== what Cyrus has for its administrators and its own kind
b> DUMP user/alice
b< BAD ...
b> UNDUMP user/alice
b< BAD ...
b> RECONSTRUCT INBOX
b< BAD ...
b> XFER INBOX elsewhere
b< BAD ...
b> LOCALCREATE x
b< BAD ...
b> NOOP
b< OK ...
b> LOCALDELETE "Other Users/alice"
b< BAD ...
b> SYNCGET USER alice
b< BAD ...
b> SYNCAPPLY UNUSER alice
b< BAD ...
b> NOOP
b< OK ...

== an admin's names and an admin's namespace are nobody else's
b> SELECT user/alice
b< NO [NONEXISTENT] ...
b> CREATE user/carol                                    # a folder of his own, of that name
b< OK ...
z> LIST "" user/*
z! * LIST ... user/carol
z< * LIST ... user/bob/user/carol
z< OK ...
b> CREATE "Other Users/carol"
b< NO [NOPERM] ...
b> CREATE "Shared Folders/top"
b< NO [NOPERM] ...
b> DELETE "Other Users/alice"
b< NO [NONEXISTENT] ...
b> RENAME "Other Users/alice" "Other Users/carol"
b< NO [NONEXISTENT] ...

== acting as another is for admins and proxyservers
client m raw
m<< * OK ...
m>= "a AUTHENTICATE PLAIN YWRtaW4AYm9iAGJvYi1wdw==\r\n"
m<< a NO [AUTHORIZATIONFAILED] ...
m>= "b AUTHENTICATE PLAIN YWxpY2UAYm9iAGJvYi1wdw==\r\n"
m<< b NO [AUTHORIZATIONFAILED] ...
m>= "c AUTHENTICATE PLAIN YWxpY2UAcHJveHkAcHJveHktcHc=\r\n"
m<< c OK ...
m> SETQUOTA INBOX (STORAGE 999999)
m< NO [NOPERM] ...
