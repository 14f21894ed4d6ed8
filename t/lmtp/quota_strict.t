#!t/transcript
# lmtp_strict_quota and lmtp_over_quota_perm_failure
config autocreate_quota: 5
config lmtp_strict_quota: yes
config lmtp_over_quota_perm_failure: yes
client l lmtp
l< 220 ...
a> NOOP
a< OK ...
l> LHLO client.example.org
l< 250 ...

== the announced size does not fit: refused at RCPT
l> MAIL FROM:<joe@example.org> SIZE=8000
l< 250 ...
l> RCPT TO:<alice>
l< 552 5.2.2 Over quota
l> RCPT TO:<alice> IGNOREQUOTA
l< 250 ...
l> RSET
l< 250 ...

== not announced: refused after DATA, and nothing is stored
l> MAIL FROM:<joe@example.org>
l< 250 ...
l> RCPT TO:<alice>
l< 250 ...
l> DATA
l< 354 ...
l>= "Subject: large\r\n\r\n"
l>= "123456789012345678901234567890\r\n" x 250
l>> .
l< 552 5.2.2 Over quota
a> GETQUOTA INBOX
a< * QUOTA INBOX (STORAGE 0 5)
a< OK ...
a> STATUS INBOX (MESSAGES)
a< * STATUS INBOX (MESSAGES 0)
a< OK ...
