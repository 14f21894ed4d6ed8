#!t/transcript
# APPENDLIMIT (RFC 7889): the same for all mailboxes, as maxmessagesize says, or as much as the store can hold
mailbox INBOX 1 messages
mailbox foo 0 messages
covers APPENDLIMIT=4294901759

== without maxmessagesize
a> STATUS INBOX (APPENDLIMIT)
a< * STATUS INBOX (APPENDLIMIT 4294901759)
a< OK ...
a> APPEND INBOX {4294967295}
a< NO [TOOBIG] ...

== with it
run echo "maxmessagesize: 100000" >> imapd.conf
server restart
a close
a> CAPABILITY
a< * CAPABILITY ... APPENDLIMIT=100000
a< OK ...

== STATUS, LIST-STATUS, and what is larger (RFC 7889 3, 4)
a> STATUS INBOX (APPENDLIMIT)
a< * STATUS INBOX (APPENDLIMIT 100000)
a< OK ...
a> LIST "" "foo" RETURN (STATUS (APPENDLIMIT MESSAGES))
a< * LIST (...) "/" foo
a< * STATUS foo (MESSAGES 0 APPENDLIMIT 100000)
a< OK ...
a> APPEND INBOX {100001}
a< NO [TOOBIG] ...
a> APPEND INBOX {100001+}
a>= "x" x 100001
a>>
a< NO [TOOBIG] ...

