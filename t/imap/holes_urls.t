#!t/transcript
# Holes that other servers had: URLs of mail that one may not read (RFC 4467, RFC 4469)
config submitservers: submit
config allowanonymouslogin: yes
config sasl_mech_list: PLAIN ANONYMOUS
user submit
client b as bob
client s as submit
client n raw
n<< * OK ...
n> AUTHENTICATE ANONYMOUS Z3Vlc3Q=
n< OK ...
mailbox Secret 3 messages
mailbox INBOX 1 messages as bob
a> APPEND Secret {33+}
a>= "Subject: secret\r\n\r\nattack at dawn"
a>>
a< OK ...

== GENURLAUTH: not for what may not be read, and not with another's keys; hidden and missing read the same
b> GENURLAUTH "imap://bob@localhost/Other%20Users/alice/Secret;UID=4;URLAUTH=anonymous" INTERNAL
b< BAD The URL names no mailbox
b> GENURLAUTH "imap://bob@localhost/Other%20Users/alice/Nothin;UID=4;URLAUTH=anonymous" INTERNAL
b< BAD The URL names no mailbox
b> GENURLAUTH "imap://alice@localhost/Secret;UID=4;URLAUTH=anonymous" INTERNAL
b< BAD The key table of that URL is not yours
b> GENURLAUTH "imap://alice@localhost/Nothin;UID=4;URLAUTH=anonymous" INTERNAL
b< BAD The key table of that URL is not yours
b> GENURLAUTH "imap://BOB@localhost/user/alice/Secret;UID=4;URLAUTH=anonymous" INTERNAL
b< BAD The URL names no mailbox
a> SETACL Secret bob liswpkxtean
a< OK ...
b> GENURLAUTH "imap://bob@localhost/Other%20Users/alice/Secret;UID=4;URLAUTH=anonymous" INTERNAL
b< BAD The URL names no mailbox
n> GENURLAUTH "imap://anonymous@localhost/Other%20Users/alice/Secret;UID=4;URLAUTH=anonymous" INTERNAL
n< BAD ...

== URLFETCH with one's own key of what may no longer be read: worthless from that moment on, and good again with the right
a> SETACL Secret bob lr
a< OK ...
b> GENURLAUTH "imap://bob@localhost/Other%20Users/alice/Secret;UID=4;URLAUTH=anonymous" INTERNAL
b< * GENURLAUTH "$u"
b< OK ...
b> URLFETCH "$u"
b< * URLFETCH "$u" "Subject: secret..."
b< OK ...
n> URLFETCH "$u"
n< * URLFETCH "$u" "Subject: secret..."
n< OK ...
a> SETACL Secret bob liswpkxtean
a< OK ...
b> URLFETCH "$u"
b< * URLFETCH "$u" NIL
b< OK ...
n> URLFETCH "$u"
n< * URLFETCH "$u" NIL
n< OK ...
s> URLFETCH "$u"
s< * URLFETCH "$u" NIL
s< OK ...
a> URLFETCH "$u"
a< * URLFETCH "$u" NIL
a< OK ...
a> DELETEACL Secret bob
a< OK ...
b> URLFETCH "$u"
b< * URLFETCH "$u" NIL
b< OK ...
b> RESETKEY "Other Users/alice/Secret"
b< NO [NONEXISTENT] Mailbox does not exist
b> RESETKEY "Other Users/alice/Nothin"
b< NO [NONEXISTENT] Mailbox does not exist
a> SETACL Secret bob lr
a< OK ...
b> URLFETCH "$u"
b< * URLFETCH "$u" "Subject: secret..."
b< OK ...
a> DELETEACL Secret bob
a< OK ...

== a token is for one mailbox: not for another that takes its name, nor for what the name stands for to somebody else
a> GENURLAUTH "imap://alice@localhost/Secret;UID=4;URLAUTH=anonymous" INTERNAL
a< * GENURLAUTH "$w"
a< OK ...
a> RENAME Secret Moved
a< OK ...
a> CREATE Secret
a< OK ...
a> APPEND Secret {21+}
a>= "Subject: other\r\n\r\nx\r\n"
a>>
a< OK ...
b> URLFETCH "$w"
b< * URLFETCH "$w" NIL
b< OK ...
a> DELETE Secret
a< OK ...
a> RENAME Moved Secret
a< OK ...
b> URLFETCH "$w"
b< * URLFETCH "$w" "Subject: secret..."
b< OK ...
a> DELETE Secret
a< OK ...
b> URLFETCH "$w"
b< * URLFETCH "$w" NIL
b< OK ...

== forged ones: of a mailbox that is there, of one that is not, of a user that is not
mailbox Secret 1 messages
b> URLFETCH "imap://alice@localhost/Secret;UID=1;URLAUTH=anonymous:internal:91354a473744909de610943775f92038"
b< * URLFETCH ... NIL
b< OK ...
b> URLFETCH "imap://alice@localhost/Nothin;UID=1;URLAUTH=anonymous:internal:91354a473744909de610943775f92038"
b< * URLFETCH ... NIL
b< OK ...
b> URLFETCH "imap://nobody@localhost/Secret;UID=1;URLAUTH=anonymous:internal:91354a473744909de610943775f92038"
b< * URLFETCH ... NIL
b< OK ...
b> URLFETCH "imap://alice@localhost/Secret;UID=1;URLAUTH=anonymous:internal:"
b< * URLFETCH ... NIL
b< OK ...
b> URLFETCH "imap://alice@localhost/Secret;UID=1"
b< * URLFETCH ... NIL
b< OK ...
b> URLFETCH "imap://localhost/Other%20Users/alice/Secret;UID=1"
b< * URLFETCH ... NIL
b< OK ...
b> URLFETCH "/Other%20Users/alice/Secret;UID=1"
b< * URLFETCH ... NIL
b< OK ...

== an admin's key opens to others what the admin himself may read, and no more: l and a are no r
client z as admin
z> GENURLAUTH "imap://admin@localhost/user/alice/Secret;UID=1;URLAUTH=anonymous" INTERNAL
z< BAD The URL names no mailbox

== CATENATE of mail that may not be read: by URL of every form, into what one may write to
b> APPEND INBOX CATENATE (URL "/Other%20Users/alice/Secret;UID=1")
b< NO [BADURL /Other%20Users/alice/Secret;UID=1] A part of the message could not be found
b> APPEND INBOX CATENATE (URL "/Other%20Users/alice/Nothin;UID=1")
b< NO [BADURL /Other%20Users/alice/Nothin;UID=1] A part of the message could not be found
b> APPEND INBOX CATENATE (URL "/Other%20Users/alice/Secret/;UID=1/;SECTION=TEXT")
b< NO [BADURL ...] ...
b> APPEND INBOX CATENATE (URL "imap://alice@localhost/Secret;UID=1")
b< NO [BADURL ...] ...
b> APPEND INBOX CATENATE (TEXT {4+}
b>= "A: b URL \"/Other%20Users/alice/Secret;UID=1\")"
b>>
b< NO [BADURL ...] ...
b> SELECT INBOX
b< * 1 EXISTS
b< OK ...
b> APPEND INBOX CATENATE (URL "../Other%20Users/alice/Secret;UID=1")
b< NO [BADURL ...] ...
b> REPLACE 1 INBOX CATENATE (URL "/Other%20Users/alice/Secret;UID=1")
b< NO [BADURL ...] ...
b> NOOP
b< OK ...
b> FETCH 1:* (UID)
b< * 1 FETCH (UID 1)
b! * 2 FETCH ...
b< OK ...

== relative to a mailbox whose r right was lost while it is selected
a> SETACL Secret bob lr
a< OK ...
b> SELECT "Other Users/alice/Secret"
b< * 1 EXISTS
b< OK ...
b> APPEND INBOX CATENATE (URL ";UID=1")
b< OK ...
a> DELETEACL Secret bob
a< OK ...
b> APPEND INBOX CATENATE (URL ";UID=1")
b< NO [BADURL ...] ...
b> APPEND INBOX CATENATE (URL "/Other%20Users/alice/Secret;UID=1")
b< NO [BADURL ...] ...
