#!/usr/bin/perl
# metrics_listen and cyrctl metrics: what is counted, in a form that Prometheus takes; who asks wrongly; HUP.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Daemon;
use Test::More;

$SIG{PIPE} = 'IGNORE';

my ($port, $lmtp, $imap, $second, $pop) = map { Daemon::port() } 1 .. 5;
my $d = Daemon->new(imap => "metrics_listen: 127.0.0.1:$port \@DIR\@/conf/metrics.sock 127.0.0.1:$lmtp\nautocreate_quota: 0\nautocreate_post: yes\n"
    . "allowplaintext: yes\nsasl_pwcheck_method: alwaystrue\nfailedloginpause: 0\n",
    master => "SERVICES {\n lmtp cmd=\"lmtpd -a\" listen=\"127.0.0.1:$lmtp\"\n imap cmd=\"imapd -N\" listen=\"127.0.0.1:$imap\"\n pop cmd=\"pop3d\" listen=\"127.0.0.1:$pop\"\n}\n");
ok($d->start, 'starts, though one address of metrics_listen is taken');
like($d->slurp('log'), qr/error metrics\.failed .*127\.0\.0\.1:$lmtp.*in use/, 'which is told');

sub http {
    my ($to, $request) = @_;
    my $s = $to =~ m{^/} ? IO::Socket::UNIX->new(Peer => $to) : IO::Socket::INET->new(PeerAddr => "127.0.0.1:$to") or return "no: $!";
    print $s $request;
    local $/;
    local $SIG{ALRM} = sub { die "alarm\n" };
    alarm 20;
    my $r = eval { <$s> };
    alarm 0;
    return $r // '';
}
sub get { my ($to, $url) = @_; return http($to, "GET $url HTTP/1.0\r\nHost: x\r\n\r\n") }
sub metrics { my ($text) = @_; return map { /^([a-z_]+(?:\{.*\})?) (\S+)$/ ? ($1 => $2) : () } split /\n/, $text }

# The text form: every sample has a TYPE before it, no name twice, label values quoted, all values are numbers.
sub wrong {
    my ($text) = @_;
    my (%type, %seen, @wrong);
    for (split /\n/, $text) {
        if (/^# HELP (\w+) \S/) { next }
        elsif (/^# TYPE (\w+) (counter|gauge|histogram)$/) { push @wrong, $_ if $type{$1}++; next }
        elsif (/^(\w+?)(_bucket|_sum|_count)?(\{(?:\w+="(?:[^"\\]|\\.)*",?)+\})? [-0-9.e+]+$/) {
            push @wrong, $_ if !$type{$1} && !$type{$1 . ($2 // '')} || $seen{"$1" . ($2 // '') . ($3 // '')}++;
        } else { push @wrong, $_ }
    }
    return join "\n", @wrong;
}

my $first = get($port, '/metrics');
like($first, qr{^HTTP/1\.\d 200 }, '/metrics');
like($first, qr{^Content-Type: text/plain; version=0\.0\.4}m, 'of the type that Prometheus wants');
my ($body) = $first =~ /\r\n\r\n(.*)/s;
is(wrong($body), '', 'well-formed');
my %before = metrics($body);
is($before{'cyrd_connections_total{service="lmtp",protocol="lmtp"}'}, 0, 'nothing yet');

my $l = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$lmtp") or die;
print $l "LHLO x\r\nMAIL FROM:<a\@x>\r\nRCPT TO:<ann>\r\nRCPT TO:<ben>\r\nDATA\r\n";
my $seen = '';
while (<$l>) { $seen .= $_; last if /^354/ }
print $l "Subject: x\r\n\r\nx\r\n.\r\n";
while (<$l>) { $seen .= $_; last if $seen =~ /(250 2\.1\.5 Ok SESSIONID.*\n?.*){2}/s }
my $i = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$imap") or die;
print $i "1 LOGIN ann x\r\n2 SELECT INBOX\r\n3 STORE 1 +FLAGS (\\Deleted)\r\n4 EXPUNGE\r\n5 LOGIN\r\n";
$seen = '';
while (<$i>) { $seen .= $_; last if /^5 / }
like($seen, qr/^4 OK/m, 'a message came, went to two, and one of them expunged it');

my $p = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$pop") or die;
print $p "USER ann\r\nPASS x\r\n";
$seen = '';
while (<$p>) { $seen .= $_; last if /^-ERR/ || /locked/ }

my %m = metrics(get($port, '/metrics'));
my %want = ('cyrd_logins_total{protocol="pop3"}' => 1, 'cyrd_messages_delivered_total' => 2, 'cyrd_messages_appended_total' => 2, 'cyrd_messages_expunged_total' => 1,
    'cyrd_logins_total{protocol="imap"}' => 1, 'cyrd_login_failures_total{protocol="imap"}' => 0, 'cyrd_connections{service="imap",protocol="imap"}' => 1,
    'cyrd_connections_total{service="lmtp",protocol="lmtp"}' => 1, 'cyrd_partitions_readonly' => 0, 'cyrd_partition_readonly{partition="default"}' => 0,
    'cyrd_mailboxes' => 2, 'cyrd_connections_refused_total' => 0, 'cyrd_queue_length{queue="run"}' => 0);
is($m{$_}, $want{$_}, $_) for sort keys %want;
cmp_ok($m{cyrd_commits_total}, '>=', 3, 'commits');
cmp_ok($m{cyrd_syncs_total}, '>=', 3, 'syncs');
is($m{'cyrd_sync_seconds_bucket{le="+Inf"}'}, $m{cyrd_sync_seconds_count}, 'the histogram of syncs adds up');
cmp_ok($m{cyrd_sync_seconds_sum}, '>', 0, 'and they took some time');
cmp_ok($m{cyrd_received_bytes_total}, '>=', 100, 'octets of living sessions count');
close $l;
Daemon::wait_for(sub { my %n = metrics(get($port, '/metrics')); $n{'cyrd_connections{service="lmtp",protocol="lmtp"}'} == 0 });
my %after = metrics(get($port, '/metrics'));
cmp_ok($after{cyrd_received_bytes_total}, '>=', $m{cyrd_received_bytes_total}, 'and those of sessions that are gone');
cmp_ok($after{$_}, '>=', $m{$_}, "$_ never goes back") for grep { /_total/ && !/process/ } sort keys %m;

my $page = get($port, '/');
like($page, qr{^HTTP/1\.\d 200 .*Content-Type: text/html.*<td>imap<td>imap<td>1<td>1\n}s, 'the page');
unlike($page, qr/ann|127\.0\.0\.1/, 'names nobody');
is(wrong(get("$d->{dir}/conf/metrics.sock", '/metrics') =~ /\r\n\r\n(.*)/s), '', 'the same on a Unix socket');

like(get($port, '/none'), qr{^HTTP/1\.\d 404 }, 'nothing else is there');
like(http($port, "POST /metrics HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc"), qr{^HTTP/1\.\d 405 .*^Allow: GET, HEAD}ms, 'POST is not taken');
like(http($port, "HEAD /metrics HTTP/1.0\r\n\r\n"), qr{^HTTP/1\.\d 200 .*\r\n\r\n\z}s, 'HEAD');
like(http($port, 'GET /' . 'x' x 100000 . " HTTP/1.0\r\n\r\n"), qr{^(HTTP/1\.\d 4\d\d |$)}, 'a long request is refused');
http($port, "\x00\xff\r\n\r\n");
my @silent = map { IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port") } 1 .. 40;
like(get($imap, ''), qr/^\* OK/, 'many silent ones are nothing to the mail services');
close $_ for grep { $_ } @silent;
ok(Daemon::wait_for(sub { get($port, '/metrics') =~ m{^HTTP/1\.\d 200} }), 'and it answers again');

my $text = `$Daemon::build/cyrctl -C $d->{dir}/imapd.conf metrics`;
is(wrong($text), '', 'cyrctl metrics prints the same');
like($text, qr/^cyrd_messages_delivered_total 2$/m, 'with its values');
like(`$Daemon::build/cyrctl -C $d->{dir}/imapd.conf --json metrics`, qr/^\{"name":"cyrd_messages_delivered_total","labels":\{\},"value":2\}$/m, 'and --json');

my $conf = $d->slurp('imapd.conf');
$conf =~ s/^metrics_listen: .*/metrics_listen: 127.0.0.1:$second/m;
$d->write('imapd.conf', $conf);
kill 'HUP', $d->{pid};
ok(Daemon::wait_for(sub { get($second, '/metrics') =~ m{^HTTP/1\.\d 200} }), 'HUP: it listens elsewhere');
like(get($port, '/metrics'), qr/^no:/, 'and no longer where it did');
ok(!-e "$d->{dir}/conf/metrics.sock", 'the Unix socket is gone');
$conf =~ s/^metrics_listen: .*\n//m;
$d->write('imapd.conf', $conf);
kill 'HUP', $d->{pid};
ok(Daemon::wait_for(sub { get($second, '/metrics') =~ /^no:/ }), 'HUP without the option: nowhere');
cmp_ok($d->stop, '<', 8, 'TERM');
is($d->{status}, 0, 'ends well');
done_testing;
