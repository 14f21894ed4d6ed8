# Messages - 1,000 different messages, the same ones in every run: plain and broken MIME, nests, 8-bit, long lines, dots, emptiness,
# odd headers, sizes around the limits that the store knows. message($n) gives (envelope sender, octets with CRLF, kind, exact).
# exact 0: a mail server is known to alter such a message (it is not RFC 5322), so it is compared with what the server sent on.
package Messages;
use strict;
use warnings;
use Exporter qw(import);
our @EXPORT = qw(message);

my $state;
sub rnd { my ($n) = @_; $state = ($state * 6364136223 + 1442695041) % 4294967296; return int($state / 65536) % $n }
sub pick { return $_[rnd(scalar @_)] }
sub words { my ($n) = @_; return join ' ', map { pick(qw(store mail octet header résumé naïve log index view thread lock queue Grüße 日本 письмо)) } 1 .. $n }
sub ascii { my ($n) = @_; return join ' ', map { pick(qw(store mail octet header resume log index view thread lock queue)) } 1 .. $n }
sub noise { my ($n, $from, $to) = @_; my $s = join '', map { chr($from + rnd($to - $from + 1)) } 1 .. $n; $s =~ tr/\r\n\0/   /; return $s }
sub lines { my ($n) = @_; return join '', map { ascii(3 + rnd 12) . "\r\n" } 1 .. $n }
sub base64 { my ($octets) = @_; my $line = join '', map { pick('A' .. 'Z', 'a' .. 'z', 0 .. 9, '+', '/') } 1 .. 76; return ("$line\r\n" x int($octets / 78)) . substr($line, 0, 72) . "\r\n" }

sub part { my ($type, $body, @more) = @_; return join('', "Content-Type: $type\r\n", map("$_\r\n", @more), "\r\n", $body) }
sub multipart {
    my ($sub, $b, @parts) = @_;
    return "Content-Type: multipart/$sub; boundary=\"$b\"\r\n\r\n" . join('', map "--$b\r\n$_\r\n", @parts) . "--$b--\r\n";
}
sub nest { my ($depth) = @_; my $m = part('text/plain', "the innermost\r\n"); $m = multipart(pick(qw(mixed alternative related)), "b$_", $m, part('text/html', "<p>$_</p>\r\n")) for 1 .. $depth; return $m }
sub embedded { my ($depth) = @_; my $m = "Subject: innermost\r\nFrom: a\@example.org\r\n\r\nhello\r\n"; $m = "Subject: level $_\r\nContent-Type: message/rfc822\r\n\r\n$m" for 1 .. $depth; return $m }

my @kinds = (
    [plain => sub { return "\r\n" . lines(1 + rnd 60) }],
    [utf8 => sub { return "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" . join('', map { words(3 + rnd 10) . "\r\n" } 1 .. 20) }],
    [latin1 => sub { return "Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" . noise(2000, 0xa0, 0xff) . "\r\n" }],
    [octets => sub { return "Content-Type: text/plain; charset=x-unknown\r\n\r\n" . join('', map { noise(60, 1, 255) . "\r\n" } 1 .. 30) }],
    ['no body' => sub { return "\r\n" }],
    ['no empty line' => sub { return '' }],
    ['only empty lines' => sub { return "\r\n" . "\r\n" x (1 + rnd 40) }],
    [dots => sub { return "\r\n" . join('', map { pick('.', '..', '...', '. ', '.x', '.QUIT', 'x.', '') . "\r\n" } 1 .. 30) . ".\r\n" }],
    ['a dot at the end' => sub { return "\r\ntext\r\n." . "\r\n" }],
    ['long line' => sub { return "\r\n" . ascii(1) x (200 + rnd 5000) . "\r\n" . lines(2) }],
    ['very long line' => sub { return "\r\n" . ('x' x (100_000 + rnd 300_000)) . "\r\nend\r\n" }],
    ['line of 998' => sub { return "\r\n" . ('y' x (996 + rnd 5)) . "\r\n" }],
    [blanks => sub { return "\r\n" . join('', map { pick("trailing   \r\n", "\ttab\t\r\n", " \r\n", "\x0c\r\n", "soft \r\n", "From here\r\n", ">From there\r\n") } 1 .. 30) }],
    [mixed => sub { return multipart('mixed', 'outer', part('text/plain', lines 5), part('application/octet-stream', base64(3000), 'Content-Transfer-Encoding: base64')) }],
    [alternative => sub { return multipart('alternative', "=_$state", part('text/plain; charset=utf-8', words(30) . "\r\n"), part('text/html; charset=utf-8', '<p>' . words(30) . "</p>\r\n")) }],
    [nest => sub { return nest(1 + rnd 20) }],
    ['deep nest' => sub { return nest(48 + rnd 30) }],
    [embedded => sub { return embedded(1 + rnd 10) }],
    [digest => sub { return multipart('digest', 'd', map { "\r\nSubject: entry $_\r\nFrom: x\@example.org\r\n\r\ntext $_\r\n" } 1 .. 12) }],
    ['many parts' => sub { return multipart('mixed', 'many', map { part('text/plain', "part $_\r\n") } 1 .. 400) }],
    ['never closed' => sub { return "Content-Type: multipart/mixed; boundary=open\r\n\r\n--open\r\n\r\nfirst\r\n--open\r\nContent-Type: text/html\r\n\r\n<p>cut off\r\n" }],
    ['no parts' => sub { return "Content-Type: multipart/mixed; boundary=none\r\n\r\nonly a preamble\r\n" }],
    ['no boundary' => sub { return "Content-Type: multipart/mixed\r\n\r\n--\r\nwhat now\r\n" }],
    ['preamble and epilogue' => sub { return "Content-Type: multipart/mixed; boundary=p\r\n\r\nThis is MIME.\r\n--p\r\n\r\nbody\r\n--p--\r\nafter\r\n\r\n\r\n" }],
    ['quoted-printable' => sub { return "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" . ("=47r=C3=BC=C3=9Fe =\r\nund =3D\r\n" x 20) }],
    ['bad base64' => sub { return part('text/plain', "!!! not base64 ===\r\n\xff\xfe\r\n", 'Content-Transfer-Encoding: base64') }],
    ['RFC 2231' => sub { return part("application/pdf;\r\n name*0*=utf-8''%e2%82%ac;\r\n name*1=\"rates\"", base64(600), "Content-Disposition: attachment; filename*=utf-8''%e2%82%ac.pdf", 'Content-Transfer-Encoding: base64') }],
    ['long header' => sub { return 'X-Long: ' . ('h' x (20_000 + rnd 40_000)) . "\r\nX-Folded: " . join("\r\n\t", map { ascii 5 } 1 .. 50) . "\r\n\r\nbody\r\n" }],
    ['many headers' => sub { return join('', map { "X-Number-$_: " . ascii(4) . "\r\n" } 1 .. 500) . "\r\nbody\r\n" }],
    ['many recipients' => sub { return 'Cc: ' . join(",\r\n ", map { "\"Person, $_\" <p$_\@example.org>" } 1 .. 300) . "\r\n\r\nbody\r\n" }],
    ['8-bit header' => sub { return "X-Name: Gr\xc3\xbc\xc3\x9fe\r\nX-Latin: Gr\xfc\xdfe\r\n\r\nbody\r\n" }],
    ['encoded words' => sub { return "Comments: =?utf-8?B?4oKs?= =?iso-8859-1?Q?=FC?= =?broken?X?y?= =?utf-8?Q?=C3?=\r\n =?utf-8?Q?=BC?=\r\n\r\nbody\r\n" }],
    ['odd addresses' => sub { return "Cc: undisclosed-recipients:;, group: a\@b, \"q\\\"uote\"\@example.org (comment (nested)), <\@route:x\@y>, =?utf-8?Q?J=C3=BC?= <j\@x>\r\nSender: <>\r\n\r\nbody\r\n" }],
    ['empty headers' => sub { return "X-Empty:\r\nX-Blank: \r\nX-Folded:\r\n \t\r\n text\r\nMIME-Version: 1.0 (a comment)\r\n\r\nbody\r\n" }],
    ['TNEF' => sub { return multipart('mixed', 'tnef', part('application/ms-tnef; name=winmail.dat', base64(9000), 'Content-Transfer-Encoding: base64')) }],
    ['delivery report' => sub { return "Content-Type: multipart/report; report-type=delivery-status; boundary=r\r\n\r\n--r\r\n\r\nIt failed.\r\n--r\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; x\r\n\r\nFinal-Recipient: rfc822; a\@b\r\nAction: failed\r\n\r\n--r\r\nContent-Type: text/rfc822-headers\r\n\r\nSubject: gone\r\n--r--\r\n" }],
    ['around 4 KiB' => sub { return "\r\n" . ('z' x (4096 - 350 + rnd 200)) . "\r\n" }],
    ['around 64 KiB' => sub { my $line = ('b' x 70) . "\r\n"; return "\r\n" . substr($line x 1000, 0, 65_000 + rnd 700) . "\r\n" }],
    ['half a MiB' => sub { return multipart('mixed', 'half', part('text/plain', lines 3), part('image/jpeg', base64(500_000 + rnd 100_000), 'Content-Transfer-Encoding: base64')) }],
    ['a line without a colon' => sub { return "this is no header\r\n\r\nbody\r\n" }, 0],
);

sub message {
    my ($n) = @_;
    $state = $n * 7919 + 17;
    rnd(2) for 1 .. 5;
    my ($kind, $make, $exact) = @{ $kinds[$n % @kinds] };
    my $rest = $n == 40 ? undef : $make->();
    if ($n == 40) {
        ($kind, $exact) = ('20 MiB attachment', 1);
        $rest = multipart('mixed', 'big', part('text/plain', "see the attachment\r\n"), part('application/zip', base64(20 << 20), 'Content-Disposition: attachment; filename=big.zip', 'Content-Transfer-Encoding: base64'));
    }
    my $head = "Message-ID: <interop-$n\@example.org>\r\nDate: Tue, 1 Apr 2025 12:00:00 +0000\r\nFrom: Tester <tester\@example.org>\r\nTo: alice\@example.test\r\nSubject: $n: $kind\r\n";
    return ($n % 7 == 3 ? '' : "sender$n\@example.org", $head . $rest, $kind, $exact // 1);
}

1;
