#!/usr/bin/perl
# Command line, checks of both files, pid file, background, START, taken ports, the end.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Daemon;
use Test::More;

my $port = Daemon::port();
my $d = Daemon->new(master => "SERVICES {\n  imap cmd=\"imapd\" listen=127.0.0.1:$port\n}\n");
my ($rc, $out);

# -- flags
for (['-x'], ['-l', 'many'], ['-C'], ['word'], ['-j', '1']) {
    ($rc, $out) = $d->run(@$_);
    is($rc, 64, "cyrd @$_: a usage error");
    like($out, qr/^usage: cyrd/m, '... that is explained');
}
$d->{name} = 'master';
($rc, $out) = $d->run('-V');
is("$rc $out", "0 cyrus-imapd 3.6.1-cyrd\n", 'master -V');
($rc, $out) = $d->run(qw(-j 1 -J 2 -v -l 255 -t));
is($rc, 0, 'master takes -j -J -v -l -t');
$d->{name} = 'cyrd';

for (['cyrd', '--help'], ['cyrd', '-h'], ['master', '--help']) {
    $d->{name} = $_->[0];
    ($rc, $out) = $d->run($_->[1]);
    like("$rc $out", qr/^0 usage: $_->[0]/, "@$_");
}
$d->{name} = 'cyrd';

# -- -t
($rc, $out) = $d->run('-t');
is($rc, 0, '-t: both files are fine');
$d->write('bad.conf', "configdirectory: \@DIR\@/conf\npartition-default: \@DIR\@/spool\ntimeout: soon\nfrobnicate: 1\ndebug yes\n");
$d->write('badc.conf', "SERVICES {\n  imap cmd=\"imapd -Q\" listen=127.0.0.1:$port\n  i-i cmd=x\n  lmtp cmd=\"lmtpd -aC x\" listen=1\n}\nEVENTS {\n  a cmd=x at=2570\n}\n");
($rc, $out) = $d->run('-t', '-C', "$d->{dir}/bad.conf", '-M', "$d->{dir}/badc.conf");
is($rc, 78, '-t: errors');
like($out, qr{bad\.conf:3:10: timeout:}, '... of a value');
like($out, qr{bad\.conf:4:1: warning: unknown option "frobnicate"}, '... unknown options are reported');
like($out, qr{bad\.conf:5:6: }, '... of grammar');
like($out, qr{badc\.conf:3:4: bad character}, '... and of cyrus.conf at the same time');
like($out, qr{badc\.conf:7:14: at: }, '... all of them');
for (['worker_threads: -1', 17], ['partition-default: rel', 20], ['partition-: /x', 13], ['defaultpartition: nowhere', 19], ['configdirectory: conf', 18],
     ['tls_server_cert: /nowhere', 18], ['tls_versions: tls1_2 tls1_9', 15], ['defaultacl: anyone', 13], ['implicit_owner_rights: lq', 24]) {
    my ($line, $column) = @$_;
    my ($option) = $line =~ /^(.*?):/;
    my $text = join '', map { "$_\n" } grep { !/^\Q$option\E:/ } split /\n/, "configdirectory: $d->{dir}/conf\npartition-default: $d->{dir}/spool\ndefaultpartition: default";
    my $at = 1 + ($text =~ tr/\n//);
    $d->write('odd.conf', "$text$line\n");
    ($rc, $out) = $d->run('-t', '-C', "$d->{dir}/odd.conf");
    like($out, qr{odd\.conf:$at:$column: .*\b\Q$option\E(?!\w)|odd\.conf:$at:$column: partition-nowhere}, "-t: $line, with its place");
}
$d->write('oddc.conf', "START {\n  a cmd=\"/usr/sbin/cyrus ctl_cyrusdb -r\"\n  b cmd=nowhere\n}\nSERVICES {\n  imap cmd=imapd listen=nosuchport\n  ext cmd=/nowhere/x listen=127.0.0.1:$port\n}\n");
($rc, $out) = $d->run('-t', '-M', "$d->{dir}/oddc.conf");
is($rc, 0, '-t: what is not here is a warning');
like($out, qr{oddc\.conf:3:9: warning: "b": program "nowhere"}, '... a program');
like($out, qr{oddc\.conf:6:1: warning: service "imap": no port is named "nosuchport"}, '... a port');
like($out, qr{oddc\.conf:7:11: warning: service "ext": program /nowhere/x}, '... a program by its path');
$d->write('badc.conf', "SERVICES {\n  imap cmd=\"imapd -Q\" listen=127.0.0.1:$port\n  lmtp cmd=\"lmtpd -aC x\" listen=1\n"
    . "  u cmd=imapd listen=2 proto=udp\n  c cmd=\"imapd -C /dev/null\" listen=3\n}\n");
($rc, $out) = $d->run('-t', '-M', "$d->{dir}/badc.conf");
is($rc, 78, '-t: wrong arguments of services are errors');
like($out, qr{badc\.conf:2:13: service "imap": imapd: unknown option -Q}, '... an unknown option');
like($out, qr{badc\.conf:3:13: .*separate words}, '... options joined');
like($out, qr{badc\.conf:4:1: .*UDP}, '... UDP');
like($out, qr{badc\.conf:5:10: .*not the daemon's}, "... another program's configuration");
($rc, $out) = $d->run('-C', "$d->{dir}/bad.conf");
is($rc, 78, 'with such a file it does not start');
like($out, qr{bad\.conf:3:10: }, '... and says why');
($rc, $out) = $d->run('-C', '/nonexistent/imapd.conf');
is($rc, 78, 'a missing file');
like($out, qr{/nonexistent/imapd\.conf}, '... is named');
$d->write('later.conf', $d->slurp('imapd.conf') . "anysievefolder: yes\nimap_sync_realm: b\narchive_enabled: yes\n");
($rc, $out) = $d->run('-t', '-C', "$d->{dir}/later.conf");
like($out, qr/warning: these options have no effect yet: anysievefolder archive_enabled$/m, 'options that are not built yet are named');
is(-e "$d->{dir}/conf/socket" ? 1 : 0, 0, 'nothing was made so far');

# -- START, in order and waited for; failures do not stop the start
$d->write('cyrus.conf', <<"C");
START {
  one   cmd="$^X $d->{dir}/note.pl one 0.3 0"
  two   cmd="$^X $d->{dir}/note.pl two 0 3"
  no    cmd="/nonexistent/program -r"
  what  cmd="nosuchprogram"
  rec   cmd="ctl_cyrusdb -r"
  tool  cmd="cyr_backup list"
  three cmd="$^X $d->{dir}/note.pl three 0 0"
}
SERVICES {
  imap cmd="imapd" listen=127.0.0.1:$port
}
C
$d->write('note.pl', <<'P');
use Socket; use Time::HiRes 'sleep';
my ($word, $wait, $status) = @ARGV;
open my $f, '>>', '@DIR@/conf/notes'; $f->autoflush; print $f "$word begins\n"; sleep $wait; print $f "$word ends\n";
socket my $s, PF_INET, SOCK_STREAM, 0; print $f "listens already\n" if connect $s, pack_sockaddr_in(@PORT@, inet_aton('127.0.0.1'));
exit $status;
P
$d->write('note.pl', $d->slurp('note.pl') =~ s/\@PORT\@/$port/r);
ok($d->start('-p', "$d->{dir}/pid"), 'starts') or diag $d->slurp('log');
is($d->slurp('conf/notes'), "one begins\none ends\ntwo begins\ntwo ends\nthree begins\nthree ends\n",
    'START entries ran in order, one after the other, before anybody listened');
like($d->slurp('log'), qr/error start\.failed name=two reason="exit status 3"/, 'a failure is a log line');
like($d->slurp('log'), qr{error start\.failed name=no .*/nonexistent/program}, '... so is a missing file');
like($d->slurp('log'), qr/error start\.failed name=what .*nosuchprogram/, '... and an unknown program');
like($d->slurp('log'), qr/warning program\.refused name=tool/, '... and a program that is not built');
unlike($d->slurp('log'), qr/name=rec reason/, 'ctl_cyrusdb -r succeeds');
is($d->slurp('pid'), "$d->{pid}\n", 'the pid file has digits only');
ok(Daemon::tcp($port), 'imap listens');

# -- a second one
my $second = Daemon->new(imap => "master_bind_errors_fatal: yes\n", master => "SERVICES {\n  mail cmd=\"imapd\" listen=127.0.0.1:$port\n}\n");
($rc, $out) = $second->run;
is($rc, 1, 'a taken port ends the start with master_bind_errors_fatal');
like($out, qr/service mail: cannot bind 127\.0\.0\.1:$port: Address already in use/, '... naming service, address and reason');
($rc, $out) = $d->run('-p', "$d->{dir}/pid");
is($rc, 1, 'a second daemon with the same pid file');
like($out, qr/runs already, process $d->{pid}/, '... names the first');
my $free = Daemon::port();
$second->write('imapd.conf', $second->slurp('imapd.conf') =~ s/master_bind.*//r);
$second->write('cyrus.conf', "SERVICES {\n  mail cmd=\"imapd\" listen=127.0.0.1:$port\n  other cmd=\"imapd\" listen=127.0.0.1:$free\n}\n");
ok($second->start, 'otherwise the rest starts');
like($second->slurp('log'), qr/error service\.failed service=mail .*already in use/, '... and it is logged');
ok(Daemon::tcp($free), '... and serves');
$second->stop;

# -- TERM
my $seconds = $d->stop;
ok(defined $seconds && $seconds < 5, 'TERM ends it');
is($d->{status}, 0, '... with status 0');
ok(!-e "$d->{dir}/pid" || $d->slurp('pid') eq '', '... and no pid is left');
ok(!Daemon::tcp($port), '... the port is free');
ok(!-e "$d->{dir}/conf/socket/cyrctl", '... the Unix sockets are gone');

# -- TERM while START hangs
$d->write('cyrus.conf', "START {\n  long cmd=\"/bin/sleep 60\"\n}\n");
my $pid = fork // die;
if ($pid == 0) { open STDERR, '>', "$d->{dir}/log"; exec $d->command }
$d->{pid} = $pid;
ok($d->wait_log(qr/start\.run name=long/), 'START runs');
$seconds = $d->stop;
ok(defined $seconds && $seconds < 5, '... and TERM cuts it short');

# -- background
$d->write('cyrus.conf', "SERVICES {\n  imap cmd=\"imapd\" listen=127.0.0.1:$port\n}\n");
for my $name (qw(cyrd master)) {
    $d->{name} = $name;
    ($rc, $out) = $d->run('-d', '-p', "$d->{dir}/bg.pid", '-L', "$d->{dir}/bg.log", '-l', '20');
    is($rc, 0, "$name -d returns 0") or diag $out;
    my ($bg) = $d->slurp('bg.pid') =~ /^(\d+)\n\z/;
    ok($bg && kill(0, $bg), '... when the pid file names a living process');
    ok(Daemon::tcp($port), '... and its service listens');
    ($rc, $out) = $d->run('-d', '-p', "$d->{dir}/bg.pid");
    is($rc, 1, '... a second one says no to its caller');
    like($out, qr/runs already/, '... and why');
    kill 'TERM', $bg if $bg;
    ok(Daemon::wait_for(sub { !kill 0, $bg }, 10), '... and TERM ends it');
}
$d->{name} = 'cyrd';
($rc, $out) = $d->run('-d', '-p', '/nonexistent/pid');
is($rc, 1, 'an impossible pid file is an error for the caller');
like($out, qr{/nonexistent/pid}, '... and named');

# -- a real Cyrus's files
for my $case (['mailboxes.db', "\241\002\213\015twoskip file\0\0\0\0" . "\0" x 44], ['mailboxes.db', "\241\002\213\015skiplist file\0\0\0" . "\0" x 44]) {
    my $f = Daemon->new(master => "START {\n  s cmd=\"/usr/bin/touch \@DIR\@/conf/started\"\n}\n");
    $f->write('cyrus.conf', $f->slurp('cyrus.conf'));
    $f->write("conf/$case->[0]", $case->[1]);
    my $before = `cd $f->{dir} && find conf spool -ls`;
    ($rc, $out) = $f->run;
    is($rc, 1, "pointed at a real Cyrus's $case->[0] it does not start");
    like($out, qr/migrat/, '... and says what to do');
    is(`cd $f->{dir} && find conf spool -ls`, $before, '... and touched nothing, START included');
}

# -- a daemon whose configdirectory is out of reach
SKIP: {
    skip 'not root', 2 if $> != 0;
    chmod 0700, $d->{dir};
    chown 0, 0, $d->{dir};
    ($rc, $out) = $d->run;
    is($rc, 1, 'root, and a place that cyrus_user cannot reach');
    like($out, qr/configdirectory.*user $Daemon::user.*Permission denied/, '... is explained');
    chmod 0755, $d->{dir};
}
done_testing;
