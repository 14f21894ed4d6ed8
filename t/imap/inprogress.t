#!t/transcript
# INPROGRESS (RFC 9585): a search that takes long says how far it is
config imap_inprogress_interval: 1s
config maxargssize: 1048576
covers INPROGRESS
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
