#!t/transcript
# METADATA (RFC 5464 4.2.2, DEPTH) with entries of any name
config annotation_allow_undefined: yes

== anything at all with annotation_allow_undefined
a> SETMETADATA INBOX (/private/filters/values/small "SMALLER 5000" /private/filters/values/boss "FROM \"boss@example.com\"" /private/filters/values/deep/er x)
a< OK ...
a> GETMETADATA "INBOX" (DEPTH 1) (/private/filters/values)
a< * METADATA INBOX (/private/filters/values/boss "FROM \"boss@example.com\"" /private/filters/values/small "SMALLER 5000")
a< OK ...
a> GETMETADATA (DEPTH infinity) INBOX /private/filters
a< * METADATA INBOX (/private/filters/values/boss "..." /private/filters/values/deep/er "x" /private/filters/values/small "...")
a< OK ...
a> GETMETADATA (DEPTH 0) INBOX /private/filters/values
a< * METADATA INBOX (/private/filters/values NIL)
a< OK ...
a> GETMETADATA INBOX "/private/filters/values/%"
a< * METADATA INBOX (/private/filters/values/boss "..." /private/filters/values/small "...")
a< OK ...

== at least ten are taken, and no more than a thousand (4.1, 4.3)
a> SETMETADATA INBOX (/shared/a1 1 /shared/a2 1 /shared/a3 1 /shared/a4 1 /shared/a5 1 /shared/a6 1 /shared/a7 1 /shared/a8 1 /shared/a9 1 /shared/a10 1)
a< OK ...
run perl -e 'use IO::Socket::INET; my $s = IO::Socket::INET->new(PeerAddr => "127.0.0.1", PeerPort => $ENV{IMAP}); <$s>; print $s "a LOGIN alice alice-pw\r\n"; <$s> for 1; for my $k (1..2) { print $s "b$k SETMETADATA INBOX (" . join(" ", map "/shared/x$k/$_ v", 1..500) . ")\r\n"; my $l = ""; while (defined($l = <$s>)) { last if $l =~ /^b$k/ } exit 1 if $k == 1 && $l !~ /^b1 OK/; exit 2 if $k == 2 && $l !~ /^b2 NO \[METADATA TOOMANY\]/ }'
a> GETMETADATA INBOX (/shared/x1/500 /shared/x2/1)
a< * METADATA INBOX (/shared/x1/500 "v" /shared/x2/1 NIL)
a< OK ...
