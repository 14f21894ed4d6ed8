#!t/transcript
# Quota in deliveries: 452 4.2.2, IGNOREQUOTA, one message may go beyond the limit
config autocreate_quota: 5
config autocreate_quota_messages: 3
client s as admin
client l lmtp
l< 220 ...
a> GETQUOTA INBOX
a< * QUOTA INBOX (STORAGE 0 5 MESSAGE 0 3)
a< OK ...
l> LHLO client.example.org
l< 250-SIZE ...
l< 250 IGNOREQUOTA

== one message may go beyond
l> MAIL FROM:<joe@example.org> SIZE=8000
l< 250 ...
l> RCPT TO:<alice>
l< 250 ...
l> DATA
l< 354 ...
l>= "Subject: large\r\n\r\n"
l>= "123456789012345678901234567890\r\n" x 250
l>> .
l< 250 ...
a> GETQUOTA INBOX
a< * QUOTA INBOX (STORAGE 7 5 MESSAGE 1 3)
a< OK ...

== then it is over
l> MAIL FROM:<joe@example.org>
l< 250 ...
l> RCPT TO:<alice>
l< 452 4.2.2 Over quota

== IGNOREQUOTA
l> RCPT TO:<alice> IGNOREQUOTA
l< 250 ...
l> DATA
l< 354 ...
l>> Subject: important
l>> 
l>> body
l>> .
l< 250 ...
a> GETQUOTA INBOX
a< * QUOTA INBOX (STORAGE /\d+/ 5 MESSAGE 2 3)
a< OK ...
