#!/usr/bin/perl
# TERM while sessions wait for programs that do not answer: the daemon is gone in time, and the stop is a clean one. Who asks for callouts of his own does
# not hold up deliveries.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Daemon;
use Test::More;
use Time::HiRes qw(sleep time);

my ($imap, $lmtp) = map { Daemon::port() } 1 .. 2;
my $d = Daemon->new(imap => "annotation_callout: \@DIR\@/callout\nallowplaintext: yes\nsasl_pwcheck_method: alwaystrue\nfailedloginpause: 0\n"
    . "autocreate_quota: 0\nautocreate_post: yes\n",
    master => "SERVICES {\n lmtp cmd=\"lmtpd -a\" listen=\"127.0.0.1:$lmtp\"\n imap cmd=\"imapd -N\" listen=\"127.0.0.1:$imap\"\n}\n");

# It answers at once while the file `quick` is there, else never.
$d->write('callout', "#!/bin/sh\n[ -e $d->{dir}/quick ] || exec sleep 100\ncat >/dev/null &\necho '()'\n");
chmod 0755, "$d->{dir}/callout" or die;
$d->write('quick', '');

sub ask {
    my ($s, $command) = @_;
    print $s "t $command\r\n";
    while (<$s>) { return $_ if /^t / }
    return '';
}
sub session {
    my $s = Daemon::tcp($imap) or die "no connection";
    scalar <$s>;
    like(ask($s, 'LOGIN ann x'), qr/^t OK/, 'LOGIN');
    like(ask($s, 'SELECT INBOX'), qr/^t OK/, 'SELECT');
    return $s;
}
sub deliver {
    my $l = Daemon::tcp($lmtp) or die;
    my $seen = '';
    my $t = time;
    print $l "LHLO x\r\nMAIL FROM:<a\@x>\r\nRCPT TO:<ben>\r\nDATA\r\n";
    while (<$l>) { $seen .= $_; last if /^354/ }
    print $l "Subject: x\r\n\r\nx\r\n.\r\n";
    $seen = <$l>;
    like($seen, qr/^250 /, 'a message is delivered');
    return time - $t;
}

ok($d->start, 'starts') or diag $d->slurp('log');
my $first = Daemon::tcp($imap);
scalar <$first>;
like(ask($first, 'LOGIN ann x'), qr/^t OK/, 'LOGIN');
print $first "t APPEND INBOX {12+}\r\nSubject: x\r\n\r\n";
while (<$first>) { last if /^t / }
like($_, qr/^t OK/, 'APPEND');
deliver();

sub hang {
    my @sessions = map { session() } 1 .. 6;
    unlink "$d->{dir}/quick" or die;
    print $_ "t XRUNANNOTATOR 1\r\n" for @sessions;
    ok(Daemon::wait_for(sub { `pgrep -f 'sleep 100' -P $d->{pid}` =~ /\d/ }, 5), 'somebody waits for the program');
    $d->write('quick', '');
    return @sessions;
}

my @sessions = hang();
my $took = $d->stop;
is($d->{status}, 0, 'TERM ends the daemon with 0');
cmp_ok($took // 99, '<', 8, sprintf 'in eight seconds (%.1f)', $took // 99);
unlike($d->slurp('log'), qr/assertion\.failed|engine\.stuck/, 'no session was stuck');
ok($d->start, 'starts again');
like(($d->slurp('log') =~ /.*(store\.open .*)/s)[0], qr/last_stop=clean/, 'and finds a clean stop');

@sessions = hang();
$took = deliver();
cmp_ok($took, '<', 5, sprintf 'a delivery does not wait behind them (%.1f s)', $took);
$d->stop;
is($d->{status}, 0, 'stops');
done_testing();
