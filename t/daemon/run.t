#!/usr/bin/perl
# While it runs: programs as services, EVENTS, DAEMON, HUP, refused services, programs by name.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Daemon;
use Test::More;
use Time::HiRes qw(sleep time);

my ($p1, $p2, $p3, $p4, $p5) = map { Daemon::port() } 1 .. 5;
my $d = Daemon->new;
$d->write('service.pl', <<'P');
# A service as Cyrus's master runs it: accepts on descriptor 4, reports on 3.
use Socket; use IO::Handle;
open my $status, '>&=', 3 or die "3: $!"; open my $listen, '+<&=', 4 or die "4: $!";
sub tell { syswrite $status, pack 'll', $_[0], $$ }
for (1 .. 2) {
    accept my $c, $listen or die "accept: $!";
    main::tell(2); $c->autoflush; my $n = () = glob '/proc/self/fd/*';
    print $c "$$ $ENV{CYRUS_SERVICE} $ENV{CYRUS_ID} $ENV{CYRUS_ISDAEMON} @ARGV\n";
    while (<$c>) { last if /quit/; print $c "echo $_" }
    close $c; main::tell(1);
}
P
$d->write('daemon.pl', <<'P');
open my $f, '>>', '@DIR@/conf/daemon'; syswrite $f, "$$ @ARGV\n";
if ($ARGV[0] eq 'wait') { open my $o, '>&=', 3 or die; sleep 1; syswrite $o, "ok\r\n"; close $o; sleep 100 }
exit 0;
P
my $master = <<"C";
SERVICES {
  imap  cmd="imapd"  listen=127.0.0.1:$p1
  own   cmd="$^X $d->{dir}/service.pl a b"  listen=127.0.0.1:$p2  maxchild=2
  news  cmd="nntpd"  listen=127.0.0.1:$p3
  bad   cmd="/bin/false"  listen=127.0.0.1:$p4
  gone  cmd="nosuchservice"  listen=\@DIR\@/conf/socket/gone
}
EVENTS {
  once  cmd="/usr/bin/touch \@DIR\@/conf/event-\@N\@"
  often cmd="ctl_cyrusdb -c" period=1
  later cmd="/bin/false" at=0000
  index cmd="/usr/sbin/cyrus squatter -i" period=1
  prune cmd="/usr/sbin/cyrus tls_prune" period=1
}
DAEMON {
  idled cmd=idled
  ready cmd="$^X $d->{dir}/daemon.pl wait" wait=yes
  short cmd="$^X $d->{dir}/daemon.pl short"
}
C
sub configure { my ($text, $n) = @_; $d->write('cyrus.conf', $text =~ s/\@N\@/$n/gr) }
configure($master, 1);
my $t = time;
ok($d->start, 'starts') or diag $d->slurp('log');
ok(time - $t >= 1, 'a DAEMON with wait=yes is waited for');

# -- a program of its own
sub own { my $s = Daemon::tcp($p2) or return; my $l = <$s> // ''; return ($s, split ' ', $l) }
my ($s, @words) = own();
is("@words[1, 3, 4, 5]", 'own 1 a b', 'the program has its service, CYRUS_ISDAEMON and arguments');
like($words[2], qr/^\d+$/, '... and CYRUS_ID');
print $s "hello\n";
is(scalar <$s>, "echo hello\n", '... and serves');
my ($s2, @words2) = own();
isnt($words2[0], $words[0], 'a second client gets a second process');
my $s3 = Daemon::tcp($p2);
my $in = '';
vec($in, fileno $s3, 1) = 1;
is(select(my $r = $in, undef, undef, 0.5), 0, 'a third waits: maxchild');
print $s "quit\n";
is((split ' ', <$s3> // '')[0], $words[0], '... until one is free, which is reused');
print $_ "quit\n" for $s2, $s3;

# -- failing programs
Daemon::tcp($p4);
ok($d->wait_log(qr/error service\.disabled service=bad .*too many failures/, 15), 'a program that keeps failing is disabled') or diag $d->slurp('log');
ok(Daemon::tcp($p4), '... its port is held');
ok(IO::Socket::UNIX->new("$d->{dir}/conf/socket/gone"), 'the port of an unknown service is held');
like($d->slurp('log'), qr/warning service\.refused service=news program=nntpd/, 'a service that is not built is logged');

$s = Daemon::tcp($p3);
is(do { local $/; <$s> }, "400 this service is not built into the server\r\n", '... and its clients are told, in their protocol');

# -- EVENTS and DAEMON
ok(Daemon::wait_for(sub { -e "$d->{dir}/conf/event-1" }), 'an event without period runs at start');
unlike($d->slurp('log'), qr/warning program\.refused name=(index|prune)/, 'events of programs that have nothing to do are taken as done');
ok(Daemon::wait_for(sub { (() = $d->slurp('conf/daemon') =~ /short/g) >= 3 }, 10), 'a daemon that ends is started again');
my $count = () = $d->slurp('conf/daemon') =~ /short/g;
ok($count <= 4, '... with a growing pause');
my ($waiting) = $d->slurp('conf/daemon') =~ /^(\d+) wait/m;

# -- HUP
$s = Daemon::tcp($p1);
like(scalar <$s>, qr/^\* OK /, 'a client is greeted');
my $more = $master =~ s/^  news .*\n//mr =~ s/\Q127.0.0.1:$p1/127.0.0.1:$p1 maxchild=7/r =~ s/^  own .*\n/  new cmd="imapd" listen=127.0.0.1:$p5\n/mr;
configure($more, 2);
kill 'HUP', $d->{pid};
ok($d->wait_log(qr/reload\.done/), 'HUP');
ok(Daemon::tcp($p5), 'a new service listens');
ok(!Daemon::tcp($p3) && !Daemon::tcp($p2), '... those that vanished do not');
ok(Daemon::tcp($p1), '... one that stayed does');
ok(Daemon::wait_for(sub { -e "$d->{dir}/conf/event-2" }), '... a changed event runs');
is(kill(0, $waiting), 1, '... a daemon that stayed was left alone');
print $s "a NOOP\r\n";
like(scalar <$s>, qr/^a OK/, '... and so was a client');
my $events = $d->slurp('log');
configure("SERVICES {\n", 3);
kill 'HUP', $d->{pid};
ok($d->wait_log(qr/reload\.failed/), 'HUP with an error in a file changes nothing');
like($d->slurp('log'), qr{error config reason=.*cyrus\.conf:1:1: section SERVICES is not closed}, '... and says what and where');
ok(Daemon::tcp($p1), '... services stay');

# -- the end
my $seconds = $d->stop;
ok(defined $seconds && $seconds < 10, 'TERM: gone within 10 seconds');
my $rest = do { local $/; <$s> };
like($rest, qr/^\* BYE .*\r\n\z/, '... and the client was told');
ok(Daemon::wait_for(sub { !kill 0, $waiting }, 2), '... and so are its programs');

# -- USR1 is not deadly
configure("SERVICES {\n  imap cmd=\"imapd\" listen=127.0.0.1:$p1\n}\n", 4);
$d->start;
kill 'USR1', $d->{pid};
sleep 0.2;
ok($d->alive, 'USR1 does nothing');
$seconds = $d->stop('INT');
ok(defined $seconds && $seconds < 5, 'INT ends it too');

# -- programs by name
my $links = "$d->{dir}/bin";
mkdir $links;
symlink "$Daemon::build/cyrd", "$links/$_" for qw(ctl_cyrusdb idled squatter tls_prune ptexpire cyr_buildinfo cyr_backup imapd quota reconstruct);
is(system("$links/ctl_cyrusdb -C x -r"), 0, 'ctl_cyrusdb -r');
is(system("$links/ctl_cyrusdb -c"), 0, 'ctl_cyrusdb -c');
isnt(system("$links/ctl_cyrusdb -q 2>/dev/null"), 0, 'ctl_cyrusdb -q is wrong');
is(system("$links/$_ -x 1"), 0, "$_: nothing to do") for qw(idled squatter tls_prune ptexpire);
like(`$links/cyr_backup list 2>&1`, qr/not built/, 'a program that is not built says so');
is($? >> 8, 1, '... and fails');
like(`$links/imapd 2>&1`, qr/inside cyrd/, 'a service started alone says where it runs');
for ('quota -f -q', 'reconstruct -q -G') {
    my ($name, $args) = split / /, $_, 2;
    is(`$links/$name -C $d->{dir}/imapd.conf $args 2>&1` . ($? >> 8), '0', "$_ on a stopped store: silent success");
}
my $json = `$links/cyr_buildinfo`;
SKIP: {
    skip 'no JSON::PP', 1 unless eval { require JSON::PP };
    my $info = eval { JSON::PP::decode_json($json) };
    ok($info && $info->{component}{autocreate} && !$info->{component}{httpd}, 'cyr_buildinfo prints JSON');
}
done_testing;
