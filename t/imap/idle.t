#!t/transcript
# IDLE (RFC 9051 6.3.13, RFC 2177)
needs IDLE
covers IDLE
mailbox INBOX 2 messages
a> SELECT INBOX
a< OK ...
b> SELECT INBOX
b< OK ...

== news comes while it lasts
b> IDLE
b< + ...
a> STORE 1 +FLAGS.SILENT (\Flagged)
a< OK ...
b<< * 1 FETCH (FLAGS (\Flagged))
mailbox INBOX 1 messages
b<< * 3 EXISTS
a> NOOP
a< * 3 EXISTS
a< OK ...
a> STORE 2 +FLAGS.SILENT (\Deleted kw)
a< OK ...
b<< * FLAGS (\Answered \Flagged \Deleted \Seen \Draft kw)
b<< * 2 FETCH (FLAGS (\Deleted kw))
a> EXPUNGE
a< * 2 EXPUNGE
a< OK ...
b<< * 2 EXPUNGE
b>> DONE
b< OK ...

== anything but DONE ends it with BAD
b> IDLE
b< + ...
b>> NOOP
b< BAD ...
b> IDLE x
b< BAD ...
b> NOOP
b< OK ...

== DONE in any case, and at once
b> IDLE
b>> done
b< OK ...

== without a mailbox it just waits
c> IDLE
c< + ...
c>> DONE
c< OK ...

== a deleted mailbox looks empty
a> CREATE Gone
a< OK ...
mailbox Gone 1 messages
b> SELECT Gone
b< * 1 EXISTS
b< OK ...
b> IDLE
b< + ...
a> DELETE Gone
a< OK ...
b<< * 1 EXPUNGE
b>> DONE
b< OK ...
