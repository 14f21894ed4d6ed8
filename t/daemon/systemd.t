#!/usr/bin/perl
# systemd: what it is told (READY, STATUS, RELOADING, STOPPING, WATCHDOG), sockets that it opened (by name, by address), the units. A socket of
# ours plays the part of systemd's; sockets come from systemd-socket-activate.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../interop";
use Interop;
use IO::Select;
use IO::Socket::UNIX;
use POSIX qw(WNOHANG);
use Socket;
use Time::HiRes qw(sleep time);

my $activate = which('systemd-socket-activate') or die "systemd-socket-activate is missing: etc/install-deps --test\n";
my $analyze = which('systemd-analyze') or die "systemd-analyze is missing: etc/install-deps --test\n";
sub like { my ($got, $re, $name) = @_; return ok(defined $got && $got =~ $re, $name) || (note_lines('got: ' . ($got // 'undef')), 0)[1] }
my $cyrd = Interop->new(services => "  env cmd=\"/bin/true\" listen=\"127.0.0.1:" . free_port() . "\"\n");
my $conf = "$cyrd->{dir}/imapd.conf";
my $master = slurp("$cyrd->{dir}/cyrus.conf");
# What a child sees of our environment.
spew("$cyrd->{dir}/env", "#!/bin/sh\nenv >$cyrd->{dir}/conf/env\nls /proc/self/fd >$cyrd->{dir}/conf/fds\n", 0755);
$master =~ s/START \{\n/START {\n  env cmd="$cyrd->{dir}\/env"\n/;
spew("$cyrd->{dir}/cyrus.conf", $master);
my @cyrd = ("$Interop::build/cyrd", '-C', $conf, '-M', "$cyrd->{dir}/cyrus.conf");

my $path = "$cyrd->{dir}/notify";
my $notify = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => $path) or die "$path: $!";
chmod 0777, $path;
my @heard;
sub listen_on { my ($s, $seconds) = @_; while (IO::Select->new($s)->can_read($seconds)) { $s->recv(my $m, 4096); push @heard, $m; $seconds = 0 } }
sub hear { my ($re, $s) = @_; return wait_for(sub { listen_on($s // $notify, 0.05); scalar grep { $_ =~ $re } @heard }, 20) }
sub run_cyrd {
    my ($env, @cmd) = @_;
    @heard = ();
    my $pid = fork // die;
    if (!$pid) {
        $ENV{$_} = $env->{$_} for keys %$env;
        $ENV{WATCHDOG_PID} = $$ if $env->{WATCHDOG_USEC} && !$env->{WATCHDOG_PID};
        $ENV{LISTEN_PID} = $$ if $env->{LISTEN_FDS} && !$env->{LISTEN_PID};
        open STDIN, '<', '/dev/null';
        open STDOUT, '>>', "$cyrd->{dir}/log";
        open STDERR, '>&', \*STDOUT;
        no warnings 'exec';
        exec @cmd;
        POSIX::_exit(127);
    }
    return $pid;
}
sub ended { my ($pid, $s) = @_; return wait_for(sub { waitpid($pid, WNOHANG) == $pid }, $s // 20) ? $? : 'hangs' }
my @kill;
END { local $?; for (@kill) { kill 'KILL', $_ if kill 0, $_ } }

# ---- told ----
my $pid = run_cyrd({ NOTIFY_SOCKET => $path, WATCHDOG_USEC => 400_000 }, @cyrd);
push @kill, $pid;
ok(hear(qr/^READY=1$/m), 'READY when it serves');
my ($ready) = grep { /^READY=1$/m } @heard;
like($ready, qr/^MAINPID=$pid$/m, '... its process');
like($ready, qr/^STATUS=5 services, \d+ sessions$/m, '... what it does');
ok($cyrd->client('alice')->logout, '... and it does serve');
like($heard[0], qr/^STATUS=Opening/, 'before that, that it opens the store');
@heard = ();
sleep 1.5;
listen_on($notify, 0.1);
my $dogs = grep { /^WATCHDOG=1$/ } @heard;
ok($dogs >= 4 && $dogs <= 10, "WATCHDOG: $dogs times in a second and a half, for one that waits 0.4 s");
my $env = slurp("$cyrd->{dir}/conf/env");
ok($env =~ /^CYRUS_ISDAEMON=1/m && $env !~ /NOTIFY_SOCKET|WATCHDOG|LISTEN_/, 'programs that it starts hear nothing of all that');
@heard = ();
kill 'HUP', $pid;
ok(hear(qr/^RELOADING=1$/m) && hear(qr/^READY=1$/m), 'HUP: RELOADING, then READY');
my ($reloading) = grep { /^RELOADING=1$/m } @heard;
like($reloading, qr/^MONOTONIC_USEC=\d{5,}$/m, '... with the time');
my $good = slurp($conf);
spew($conf, $good . "timeout: never\n");
@heard = ();
kill 'HUP', $pid;
ok(hear(qr/^STATUS=The old configuration stays in force: .*timeout/m), 'HUP with an error: it says so');
ok((grep { /^READY=1$/m } @heard) == 1, '... and is ready');
spew($conf, $good);
@heard = ();
sleep 1;
listen_on($notify, 0.1);
ok((grep { /^WATCHDOG=1$/ } @heard) >= 3, '... and the watchdog is fed');
@heard = ();
kill 'TERM', $pid;
ok(hear(qr/^STOPPING=1$/m), 'TERM: STOPPING');
is(ended($pid), 0, '... and it ends');
# A watchdog for somebody else; an abstract name; nobody.
my $abstract = "cyrd-test-$$";
socket(my $as, AF_UNIX, SOCK_DGRAM, 0) or die;
bind $as, pack_sockaddr_un("\0$abstract") or die "bind: $!";
my $an = IO::Socket::UNIX->new_from_fd($as, 'r+');
$pid = run_cyrd({ NOTIFY_SOCKET => "\@$abstract", WATCHDOG_USEC => 400_000, WATCHDOG_PID => 1 }, @cyrd);
push @kill, $pid;
ok(hear(qr/^READY=1$/m, $an), 'an abstract name');
@heard = ();
sleep 1;
listen_on($an, 0.1);
ok(!(grep { /WATCHDOG/ } @heard), 'a watchdog that waits for another process hears nothing');
kill 'TERM', $pid;
is(ended($pid), 0, 'it ends');
for my $bad ('/nowhere/at/all', 'relative', '', '/' . 'x' x 300) {
    $pid = run_cyrd({ NOTIFY_SOCKET => $bad }, @cyrd);
    push @kill, $pid;
    ok(wait_for(sub { log_of() =~ /daemon\.ready .*pid=$pid\b/ }, 20), 'NOTIFY_SOCKET "' . substr($bad, 0, 20) . '": it starts all the same');
    kill 'TERM', $pid;
    is(ended($pid), 0, '... and ends');
}
# A start that fails.
spew("$cyrd->{dir}/foreign.conf", $good =~ s{^configdirectory:.*}{configdirectory: /proc/nowhere}mr);
$pid = run_cyrd({ NOTIFY_SOCKET => $path }, "$Interop::build/cyrd", '-C', "$cyrd->{dir}/foreign.conf", '-M', "$cyrd->{dir}/cyrus.conf");
ok(hear(qr/^STATUS=Failed: .+/m), 'a start that fails: why');
ok(ended($pid) != 0 && !(grep { /READY/ } @heard), '... and never READY');
# In the background the process is another one.
$pid = run_cyrd({ NOTIFY_SOCKET => $path }, @cyrd, '-d', '-p', "$cyrd->{dir}/conf/pid");
is(ended($pid), 0, '-d');
ok(hear(qr/^READY=1$/m), '... READY');
my ($main) = map { /^MAINPID=(\d+)$/m ? $1 : () } @heard;
ok($main != $pid && slurp("$cyrd->{dir}/conf/pid") =~ /^$main\n/, '... MAINPID is the daemon\'s');
kill 'TERM', $main;
ok(wait_for(sub { !kill 0, $main }, 15), 'it ends');

# ---- sockets ----
sub tcp { my ($port) = @_; my $s; wait_for(sub { $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port, Timeout => 5) }, 10); return $s }
sub greeting { my ($s) = @_; local $SIG{ALRM} = sub { die "no line\n" }; alarm 30; my $l = eval { <$s> }; alarm 0; return $l }
sub log_of { return slurp("$cyrd->{dir}/log") // '' }
my ($p_imap, $p_lmtp, $p_extra) = map { free_port() } 1 .. 3;
unlink "$cyrd->{dir}/log";
# By name: cyrus.conf's addresses are not bound, those of the sockets are served.
$pid = run_cyrd({ NOTIFY_SOCKET => $path }, $activate, '-l', "127.0.0.1:$p_imap", '-l', "127.0.0.1:$p_lmtp", '-l', "127.0.0.1:$p_extra", '--fdname=imap:LMTP:stranger', '-E', "NOTIFY_SOCKET=$path", @cyrd);
push @kill, $pid;
wait_for(sub { log_of() =~ /Listening/ }, 10);
like(greeting(tcp($p_imap)), qr/^\* OK/, 'the first client starts it, and is served');
like(greeting(tcp($p_lmtp)), qr/^220 /, 'by name, in any case');
ok(!IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $cyrd->{imap}), 'what cyrus.conf says of that service\'s address does not count');
ok(IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $cyrd->{imaps}), '... other services listen where it says');
wait_for(sub { log_of() =~ /daemon\.ready/ }, 10);
like(log_of(), qr/systemd\.socket name=stranger address=127\.0\.0\.1:$p_extra/, 'a socket that is nobody\'s is told of');
like(log_of(), qr/service\.listening service=imap program=imapd address=127\.0\.0\.1:$p_imap/, 'the log has the address');
is(slurp("$cyrd->{dir}/conf/fds") =~ s/\s+/ /gr, '0 1 2 3 ', 'programs that it starts do not have the sockets');
# HUP: the service goes and comes again, on the same socket.
my $without = $master =~ s/^  imap cmd.*\n//mr;
my $c = tcp($p_imap);
greeting($c);
spew("$cyrd->{dir}/cyrus.conf", $without);
@heard = ();
kill 'HUP', $pid;
hear(qr/^READY=1$/m);
print $c "a NOOP\r\n";
like(greeting($c), qr/^a OK/, 'HUP without the service: who is in goes on');
spew("$cyrd->{dir}/cyrus.conf", $master);
@heard = ();
kill 'HUP', $pid;
hear(qr/^READY=1$/m);
like(greeting(tcp($p_imap)), qr/^\* OK/, 'HUP with it: it serves there again');
kill 'TERM', $pid;
is(ended($pid), 0, 'it ends');
# By address: a name that is no service's. With a Unix socket.
my $unix = "$cyrd->{dir}/socket/activated";
my $changed = $master =~ s/listen="\Q$cyrd->{lmtp_socket}\E"/listen="$unix"/r;
spew("$cyrd->{dir}/cyrus.conf", $changed);
unlink "$cyrd->{dir}/log";
$pid = run_cyrd({}, $activate, '-l', "127.0.0.1:$cyrd->{imap}", '-l', $unix, '--fdname=cyrd.socket:cyrd.socket', '-E', "NOTIFY_SOCKET=$path", @cyrd);
push @kill, $pid;
wait_for(sub { log_of() =~ /Listening/ }, 10);
run_cmd(['chmod', '777', $unix]);
like(greeting(tcp($cyrd->{imap})), qr/^\* OK/, 'by address');
my $u = IO::Socket::UNIX->new(Peer => $unix);
like($u && greeting($u), qr/^220 /, '... a Unix socket too');
ok(log_of() !~ /service\.failed|systemd\.socket/, '... nothing else is tried');
ok(hear(qr/^READY=1/m), 'it is ready');
kill 'TERM', $pid;
is(ended($pid), 0, 'it ends');
ok(-S $unix, 'the Unix socket is systemd\'s and stays');
unlink $unix;
spew("$cyrd->{dir}/cyrus.conf", $master);
# For somebody else: not ours.
$pid = run_cyrd({ NOTIFY_SOCKET => $path, LISTEN_FDS => 1, LISTEN_PID => 1, LISTEN_FDNAMES => 'imap' }, @cyrd);
push @kill, $pid;
ok(hear(qr/^READY=1$/m), 'LISTEN_PID of another process');
like(greeting(tcp($cyrd->{imap})), qr/^\* OK/, '... cyrus.conf holds');
kill 'TERM', $pid;
is(ended($pid), 0, 'it ends');
for my $n ('x', '-1', '3', '99999999999') {
    listen_on($notify, 0.1);
    @heard = ();                                # what the one before had to say, too
    $pid = run_cyrd({ NOTIFY_SOCKET => $path, LISTEN_FDS => $n }, @cyrd);
    push @kill, $pid;
    ok(hear(qr/^READY=1$/m) && wait_for(sub { log_of() =~ /daemon\.ready .*pid=$pid\b/ }, 20), "LISTEN_FDS=$n, and nothing there: it starts");
    kill 'TERM', $pid;
    is(ended($pid), 0, '... and ends');
}

# ---- the units ----
my $units = "$cyrd->{dir}/units";
mkdir $units;
for my $u (qw(cyrd.service cyrd.socket)) {
    my $text = slurp("$Interop::top/etc/$u");
    $text =~ s{/usr/local/sbin/cyrd}{$Interop::build/cyrd}g;
    spew("$units/$u", $text);
}
my ($st, $out) = run_cmd([$analyze, 'verify', '--man=no', '--recursive-errors=no', "$units/cyrd.socket", "$units/cyrd.service"]);
ok($st eq '0' && $out !~ /cyrd\.(?:service|socket):/, 'systemd-analyze verify has nothing to say') or note_lines($out);
my %socket = map { /^ListenStream=(\S+)/ ? ($1 => 1) : () } split /\n/, slurp("$Interop::top/etc/cyrd.socket");
my %port = (imap => 143, imaps => 993, pop3 => 110, pop3s => 995);
my %sample = map { /^\s+\w+\s.*listen="([^"]+)"/ ? (($port{$1} // $1) => 1) : () } split /\n/, slurp("$Interop::top/etc/cyrus.conf");
is(join(' ', grep { !$sample{$_} } sort keys %socket), '', 'each socket of cyrd.socket is a service\'s in the sample cyrus.conf');
$cyrd->start;
$cyrd->ends_well;
done;
