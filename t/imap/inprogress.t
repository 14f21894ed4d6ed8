#!t/transcript
# INPROGRESS (RFC 9585): a search that takes long says how far it is
config imap_inprogress_interval: 1s
config maxargssize: 1048576
config pop3_imap_inprogress_interval: 0
service pop3 cmd="imapd" listen="127.0.0.1:%POP3%"
covers INPROGRESS
client q raw %POP3%
client r raw
mailbox some 50 messages
mailbox other 0 messages
a> APPEND INBOX {12000002+}
a>= "Subject: x\r\n\r\n"
a>= "0123456789abcdefghijklmnopqrstuvwxyz lorem ipsum dolor sit am\r\n" x 190476
a>>
a< OK ...
a> SELECT INBOX
a< OK ...

== two hundred strings in twelve million octets
a> SEARCH OR BODY "!A" OR BODY "!B" OR BODY "!C" OR BODY "!D" OR BODY "!E" OR BODY "!F" OR BODY "!G" OR BODY "!H" OR BODY "!I" OR BODY "!J" OR BODY "!K" OR BODY "!L" OR BODY "!M" OR BODY "!N" OR BODY "!O" OR BODY "#A" OR BODY "#B" OR BODY "#C" OR BODY "#D" OR BODY "#E" OR BODY "#F" OR BODY "#G" OR BODY "#H" OR BODY "#I" OR BODY "#J" OR BODY "#K" OR BODY "#L" OR BODY "#M" OR BODY "#N" OR BODY "#O" OR BODY "$A" OR BODY "$B" OR BODY "$C" OR BODY "$D" OR BODY "$E" OR BODY "$F" OR BODY "$G" OR BODY "$H" OR BODY "$I" OR BODY "$J" OR BODY "$K" OR BODY "$L" OR BODY "$M" OR BODY "$N" OR BODY "$O" OR BODY "&A" OR BODY "&B" OR BODY "&C" OR BODY "&D" OR BODY "&E" OR BODY "&F" OR BODY "&G" OR BODY "&H" OR BODY "&I" OR BODY "&J" OR BODY "&K" OR BODY "&L" OR BODY "&M" OR BODY "&N" OR BODY "&O" OR BODY "'A" OR BODY "'B" OR BODY "'C" OR BODY "'D" OR BODY "'E" OR BODY "'F" OR BODY "'G" OR BODY "'H" OR BODY "'I" OR BODY "'J" OR BODY "'K" OR BODY "'L" OR BODY "'M" OR BODY "'N" OR BODY "'O" OR BODY "+A" OR BODY "+B" OR BODY "+C" OR BODY "+D" OR BODY "+E" OR BODY "+F" OR BODY "+G" OR BODY "+H" OR BODY "+I" OR BODY "+J" OR BODY "+K" OR BODY "+L" OR BODY "+M" OR BODY "+N" OR BODY "+O" OR BODY ",A" OR BODY ",B" OR BODY ",C" OR BODY ",D" OR BODY ",E" OR BODY ",F" OR BODY ",G" OR BODY ",H" OR BODY ",I" OR BODY ",J" OR BODY ",K" OR BODY ",L" OR BODY ",M" OR BODY ",N" OR BODY ",O" OR BODY "-A" OR BODY "-B" OR BODY "-C" OR BODY "-D" OR BODY "-E" OR BODY "-F" OR BODY "-G" OR BODY "-H" OR BODY "-I" OR BODY "-J" OR BODY "-K" OR BODY "-L" OR BODY "-M" OR BODY "-N" OR BODY "-O" OR BODY "/A" OR BODY "/B" OR BODY "/C" OR BODY "/D" OR BODY "/E" OR BODY "/F" OR BODY "/G" OR BODY "/H" OR BODY "/I" OR BODY "/J" OR BODY "/K" OR BODY "/L" OR BODY "/M" OR BODY "/N" OR BODY "/O" OR BODY ":A" OR BODY ":B" OR BODY ":C" OR BODY ":D" OR BODY ":E" OR BODY ":F" OR BODY ":G" OR BODY ":H" OR BODY ":I" OR BODY ":J" OR BODY ":K" OR BODY ":L" OR BODY ":M" OR BODY ":N" OR BODY ":O" OR BODY ";A" OR BODY ";B" OR BODY ";C" OR BODY ";D" OR BODY ";E" OR BODY ";F" OR BODY ";G" OR BODY ";H" OR BODY ";I" OR BODY ";J" OR BODY ";K" OR BODY ";L" OR BODY ";M" OR BODY ";N" OR BODY ";O" OR BODY "<A" OR BODY "<B" OR BODY "<C" OR BODY "<D" OR BODY "<E" OR BODY "<F" OR BODY "<G" OR BODY "<H" OR BODY "<I" OR BODY "<J" OR BODY "<K" OR BODY "<L" OR BODY "<M" OR BODY "<N" OR BODY "<O" OR BODY "=A" OR BODY "=B" OR BODY "=C" OR BODY "=D" OR BODY "=E" OR BODY "=F" OR BODY "=G" OR BODY "=H" OR BODY "=I" OR BODY "=J" OR BODY "=K" OR BODY "=L" OR BODY "=M" OR BODY "=N" OR BODY "=O" OR BODY ">A" OR BODY ">B" OR BODY ">C" OR BODY ">D" OR BODY ">E" OR BODY ">F" OR BODY ">G" OR BODY ">H" OR BODY ">I" OR BODY ">J" OR BODY ">K" OR BODY ">L" OR BODY ">M" OR BODY ">N" OR BODY ">O" OR BODY "?A" OR BODY "?B" OR BODY "?C" OR BODY "?D" OR BODY "?E" OR BODY "?F" OR BODY "?G" OR BODY "?H" OR BODY "?I" OR BODY "?J" OR BODY "?K" OR BODY "?L" OR BODY "?M" OR BODY "?N" OR BODY "?O" OR BODY "@A" OR BODY "@B" OR BODY "@C" OR BODY "@D" OR BODY "@E" OR BODY "@F" OR BODY "@G" OR BODY "@H" OR BODY "@I" OR BODY "@J" OR BODY "@K" OR BODY "@L" OR BODY "@M" OR BODY "@N" OR BODY "@O" BODY none
a< * OK [INPROGRESS ("$t" $n 1)] ...
a< * SEARCH
a< OK ...

== a short one does not
a> SEARCH SUBJECT x
a< * SEARCH 1
a! * OK [INPROGRESS ...] ...
a< OK ...

== COPY and MOVE say how many messages they have gone through
a> SELECT some
a< OK ...
slow 1200
a> COPY 1:50 other
a< * OK [INPROGRESS ("$c" 49 50)] COPY is in progress
a< OK ...
where $c ne $t
a> UID MOVE 1:40 other
a< * OK [INPROGRESS ("$m" 39 40)] UID MOVE is in progress
a< * OK [COPYUID ...] ...
a< OK ...

== other commands say at least that they go on (RFC 9585 4)
a> APPEND other {15+}
a>= "Subject: x\r\n\r\nx\r\n"
a< * OK [INPROGRESS ("$d" NIL NIL)] APPEND is in progress
a< OK ...
a> STORE 1:5 +FLAGS.SILENT (\Deleted)
a< OK ...
a> EXPUNGE
a< * OK [INPROGRESS ("$e" NIL NIL)] EXPUNGE is in progress
a< OK ...
slow 250
a> CREATE third
a< * OK [INPROGRESS ("$f" NIL NIL)] CREATE is in progress
a< OK ...
slow 1200
a> RENAME third fourth
a< * OK [INPROGRESS ("$g" NIL NIL)] RENAME is in progress
a< OK ...
slow 250
a> RENAME INBOX fifth
a< * OK [INPROGRESS ("$h" ...)] RENAME is in progress
a< OK ...
slow 500
a> SETMETADATA fourth (/private/comment x)
a< * OK [INPROGRESS ("$i" NIL NIL)] SETMETADATA is in progress
a< OK ...
== a tag that would end the response code is NIL (RFC 9585 4)
r<< * OK ...
r>> a] LOGIN alice alice-pw
r<< a] OK ...
r>> b]c CREATE sixth
r<< * OK [INPROGRESS (NIL NIL NIL)] CREATE is in progress
r<< b]c OK ...

== nothing is said before log-in, and with imap_inprogress_interval: 0
q<< * OK ...
q>> a LOGIN alice alice-pw
q<< a OK ...
q> CREATE seventh
q! * OK [INPROGRESS ...] ...
q< OK ...
slow 0
