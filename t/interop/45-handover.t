#!/usr/bin/perl
# Service programs started with a client: by inetd-like programs (socat, systemd), by mutt's tunnel, by a real Cyrus's master. They hand it to
# the daemon, or to a temporary one where none runs.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use File::Path qw(make_path);
use IO::Socket::INET;
use IO::Socket::UNIX;
use IPC::Open2;
use POSIX qw(WNOHANG);
use Time::HiRes qw(sleep time);
use Interop;

my ($socat, $activate, $mutt, $master) = map { which($_) or die "$_ is missing: etc/install-deps --test\n" } qw(socat systemd-socket-activate mutt master);
$master = '/usr/lib/cyrus/bin/master' if -x '/usr/lib/cyrus/bin/master';
my ($few, $slow, $inetd, $nofork, $sd, $sd3, $wait) = map { free_port() } 1 .. 7;
my $cyrd = Interop->new(imap => "failedloginpause: 0\nslow_login_timeout: 2s\nmaxconnections_per_host: 12\n",
    services => "  few cmd=\"imapd\" listen=\"127.0.0.1:$few\" maxchild=1\n  slow cmd=\"imapd\" listen=\"127.0.0.1:$slow\"\n");
my $conf = "$cyrd->{dir}/imapd.conf";
my $bin = "$cyrd->{dir}/bin";
make_path($bin);
# A copy, where the daemon's user can reach it.
run_cmd(['cp', "$Interop::build/cyrd", "$bin/cyrd"]);
symlink 'cyrd', "$bin/$_" or die for qw(imapd pop3d lmtpd timsieved);
my @children;
sub background {
    my (@cmd) = @_;
    my $pid = fork // die;
    if (!$pid) {
        open STDIN, '<', '/dev/null';
        open STDOUT, '>>', "$cyrd->{dir}/background";
        open STDERR, '>&', \*STDOUT;
        no warnings 'exec';
        exec @cmd;
        POSIX::_exit(127);
    }
    push @children, $pid;
    return $pid;
}
sub end_of { my ($pid) = @_; kill 'TERM', $pid; waitpid $pid, 0; @children = grep { $_ != $pid } @children }
END { local $?; for (@children) { kill 'KILL', $_; waitpid $_, 0 } }
sub like { my ($got, $re, $name) = @_; return ok(defined $got && $got =~ $re, $name) || (note_lines('got: ' . ($got // 'undef')), 0)[1] }
sub tcp { my ($port) = @_; my $s; wait_for(sub { $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port, Timeout => 5) }, 10); return $s }
sub line { my ($s) = @_; local $SIG{ALRM} = sub { die "no line\n" }; alarm 20; my $l = eval { <$s> }; alarm 0; return $l }
sub talk { my ($s, $l) = @_; print $s "$l\r\n"; my $got = ''; while (defined(my $r = line($s))) { $got .= $r; last if $r =~ /^(?:\S+ (?:OK|NO|BAD) |\+OK|-ERR|\d{3} )/ && $r !~ /^\* / } return $got }
# run_cmd's input is a file; a client is a pipe.
sub piped {
    my ($program, $in, @args) = @_;
    my $pid = open2(my $out, my $to, "$bin/$program", '-C', $conf, @args);
    print $to $in;
    close $to;
    local $/;
    local $SIG{ALRM} = sub { kill 'KILL', $pid };
    alarm 40;
    my $got = <$out>;
    waitpid $pid, 0;
    alarm 0;
    return ($? & 127 ? 'signal' : $? >> 8, $got);
}
sub sessions { my (undef, $out) = $cyrd->ctl('--json', 'sessions'); return grep { $_->{service} ne 'cyrctl' } map { JSON::decode_json($_) } split /\n/, $out }
require JSON;

# ---- a daemon runs ----
$cyrd->start;
my ($st, $out) = piped('imapd', "a NOOP\r\nb LOGOUT\r\n");
like($out, qr/^\* OK .*\r\na OK .*\r\n\* BYE .*\r\nb OK .*\r\n\z/s, 'imapd with pipes');
is($st, 0, '... ends with the session');
($st, $out) = piped('pop3d', "QUIT\r\n");
like($out, qr/^\+OK .*\r\n\+OK .*\r\n\z/, 'pop3d');
($st, $out) = piped('lmtpd', "LHLO x\r\nMAIL FROM:<>\r\nQUIT\r\n");
like($out, qr/^220 .*^430 .*^221 /ms, 'lmtpd: a pipe is no reason for trust');
($st, $out) = piped('lmtpd', "LHLO x\r\nMAIL FROM:<a\@b.example>\r\nRCPT TO:<alice>\r\nDATA\r\nSubject: by pipe\r\n\r\n.\r\nQUIT\r\n", '-a');
like($out, qr/^354 .*^250 2\.1\.5 .*^221 /ms, 'lmtpd -a delivers');
($st, $out) = piped('timsieved', '');
like($out, qr/^BYE /, 'a service that is not built says so');
($st, $out) = piped('imapd', "a LOGIN alice $Interop::password\r\nb LOGOUT\r\n");
like($out, qr/^a NO /m, 'a password in clear is refused');
($st, $out) = piped('imapd', "a LOGIN alice $Interop::password\r\nb LOGOUT\r\n", '-p', '128');
like($out, qr/^a OK /m, '... unless something outside of us protects the connection');
my $big = 'x' x 3_000_000;
($st, $out) = piped('imapd', "a LOGIN alice $Interop::password\r\nb APPEND INBOX {" . (length($big) + 4) . "+}\r\n\r\n\r\n$big\r\nc SELECT INBOX\r\nd FETCH * BODY.PEEK[TEXT]\r\ne LOGOUT\r\n", '-p', '128');
ok($out =~ /^e OK/m && index($out, $big) > 0, 'three megabytes go through in both directions');
is((run_cmd(["$bin/imapd", '-C', $conf], timeout => 5))[0], 1, 'without a client there is nothing to do');
like((run_cmd(["$bin/imapd", '-C', $conf], timeout => 5))[1], qr/runs inside cyrd/, '... which is said');
if ($> == 0) {
    # Who is neither root nor the daemon's user.
    my ($uid) = map { (getpwnam $_)[2] } grep { $_ ne $cyrd->{user} } qw(nobody daemon);
    my $pid = open2(my $from, my $to, 'setpriv', '--reuid', $uid, '--clear-groups', "$bin/imapd", '-C', $conf);
    print $to "a NOOP\r\n";
    close $to;
    local $/;
    is(scalar(<$from>), "* BYE The mail server cannot be reached, try again later\r\n", 'somebody else may not');
    waitpid $pid, 0;
    is($? >> 8, 1, '... and 1');
} else { skip('somebody else may not', 'needs root') for 1 .. 2 }
is((piped('imapd', '', '-Q'))[1], "* BYE The mail server cannot be reached, try again later\r\n", 'an option that is none');
my $control = "$cyrd->{dir}/conf/socket/cyrctl";
$cyrd->inner(['python3', "$FindBin::Bin/handover_walk.py"], env => { SOCKET => $control, PID => $cyrd->{pid} });
if ($> == 0) {
    # Even where somebody has opened the socket to everybody: who it is counts.
    chmod 0777, $control;
    my ($uid) = map { (getpwnam $_)[2] } grep { $_ ne $cyrd->{user} } qw(nobody daemon);
    my ($pst, $pout) = run_cmd(['setpriv', '--reuid', $uid, '--clear-groups', '/usr/bin/python3', '-c', <<"END"]);
import socket, array, json
def ask(op, args, fds=[]):
    s = socket.socket(socket.AF_UNIX); s.connect('$control')
    text = json.dumps({'op': op, 'args': args}).encode() + b'\\n'
    s.sendmsg([text], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))] if fds else [])
    return json.loads(s.recv(4096).split(b'\\n')[0]).get('code')
a, b = socket.socketpair()
print(ask('handover', {'program': 'imapd', 'name': 'imap', 'argv': ['imapd', '-N']}, [b.fileno()]), ask('temporary.end', {}))
END
    is($pout, "perm perm\n", 'another user who reaches the socket is refused');
    chmod 0600, $control;
} else { skip('another user who reaches the socket is refused', 'needs root') }

# ---- inetd ----
my $s1 = background($socat, "TCP-LISTEN:$nofork,bind=127.0.0.1,reuseaddr,fork", "EXEC:$bin/imapd -C $conf,nofork");
my $s2 = background($socat, "TCP-LISTEN:$inetd,bind=127.0.0.1,reuseaddr,fork", "EXEC:$bin/imapd -C $conf");
my $s3 = background($activate, '--accept', '--inetd', '-l', "127.0.0.1:$sd", "$bin/imapd", '-C', $conf);
my $s4 = background($activate, '--accept', '-l', "127.0.0.1:$sd3", "$bin/imapd", '-C', $conf);
for ([ $nofork, 'socat, the connection itself on 0 and 1', qr/^127\.0\.0\.1:\d+$/ ], [ $inetd, 'socat, a socket pair', qr/^tunnel$/ ],
    [ $sd, 'systemd, as inetd', qr/^127\.0\.0\.1:\d+$/ ], [ $sd3, 'systemd, on descriptor 3', qr/^127\.0\.0\.1:\d+$/ ]) {
    my ($port, $what, $peer) = @$_;
    my $c = tcp($port);
    like(line($c), qr/^\* OK /, "$what: greeted");
    my ($session) = sessions();
    like($session->{peer}, $peer, '... the daemon knows who it is');
    is($session->{service}, 'imap', '... it is of the service imap');
    like(talk($c, 'a LOGOUT'), qr/^a OK/m, '... and serves');
    is(line($c), undef, '... the connection is closed');
    ok(wait_for(sub { !sessions() }, 5), '... the session is over');
}
# The program lives as long as the session, and no longer.
sub helpers { my ($re) = @_; my @h; for my $p (glob '/proc/[0-9]*') { my $c = slurp("$p/cmdline") // next; push @h, $p =~ /(\d+)/ if $c =~ /^\Q$bin\E\/$re\0/ } return @h }
my $c = tcp($nofork);
line($c);
is(scalar(helpers('imapd')), 1, 'inetd sees its program run');
my ($session) = sessions();
$cyrd->ctl('sessions', 'kick', $session->{session});
like(line($c), qr/^\* BYE/, 'a session that is ended says goodbye');
is(line($c), undef, '... the connection closes');
ok(wait_for(sub { !helpers('imapd') }, 5), '... and the program has ended');
$c = tcp($nofork);
line($c);
close $c;
ok(wait_for(sub { !helpers('imapd') }, 5), 'a client that hangs up ends it too');
# TLS through all that.
my ($tst, $tout) = run_cmd(['openssl', 's_client', '-quiet', '-starttls', 'imap', '-connect', "127.0.0.1:$nofork", '-CAfile', $cyrd->{ca}, '-verify_return_error'], in => "a LOGIN alice $Interop::password\r\nb LOGOUT\r\n");
like($tout, qr/^a OK/m, 'STARTTLS');
end_of($_) for $s1, $s2, $s3, $s4;
# inetd's "wait": the listening socket itself.
my $w = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1', LocalPort => $wait, ReuseAddr => 1) or die;
my $wp = fork // die;
if (!$wp) { open STDIN, '<&', $w; open STDOUT, '>', '/dev/null'; exec "$bin/imapd", '-C', $conf, '-T', '1', '-U', '5' }
close $w;
for (1 .. 3) { my $c = tcp($wait); like(line($c), qr/^\* OK/, 'a listening socket on 0'); talk($c, 'a LOGOUT') }
ok(wait_for(sub { waitpid($wp, WNOHANG) == $wp }, 5) && $? == 0, '... until nobody comes for -T seconds');

# ---- limits and times ----
sub tunnel {
    my ($env, @args) = @_;
    my ($from, $to);
    local $ENV{CYRUS_SERVICE} = $env if $env;
    my $pid = open2($from, $to, "$bin/imapd", '-C', $conf, @args);
    return { pid => $pid, from => $from, to => $to };
}
sub end_tunnel { my ($t) = @_; close $t->{to}; close $t->{from}; my $ok = wait_for(sub { waitpid($t->{pid}, WNOHANG) == $t->{pid} }, 10); return $ok ? $? >> 8 : 'hangs' }
my $first = tunnel('few');
like(line($first->{from}), qr/^\* OK/, 'the service that allows one: the first');
my $second = tunnel('few');
is(line($second->{from}), "* BYE Too many connections\r\n", '... maxchild turns the second away');
is(line($second->{from}), undef, '... and that is all');
is(end_tunnel($second), 1, '... with 1');
end_tunnel($first);
ok(wait_for(sub { !sessions() }, 5), '... there is room again');
$first = tunnel('few');
like(line($first->{from}), qr/^\* OK/, '... and one is let in');
end_tunnel($first);
my $t = time;
$first = tunnel('slow');
line($first->{from});
like(line($first->{from}), qr/^\* BYE/, 'login_timeout of the service: goodbye');
ok(time - $t > 1.5 && time - $t < 6, '... after its time');
is(end_tunnel($first), 0, '... and the program ends');
{
    my $p = background($socat, "TCP-LISTEN:$nofork,bind=127.0.0.1,reuseaddr,fork", "EXEC:$bin/imapd -C $conf,nofork");
    my @c = map { my $c = tcp($nofork); [ $c, line($c) ] } 1 .. 15;
    is(join(' ', map { $_->[1] =~ /^\* OK/ ? 'in' : $_->[1] =~ /^\* BYE Too many connections\r/ ? 'out' : '?' } @c), join(' ', ('in') x 12, ('out') x 3),
        'maxconnections_per_host: by the address of the client, whoever accepted it');
    end_of($p);
}
my $fds = sub { my @f = glob "/proc/$cyrd->{pid}/fd/*"; return scalar @f };
wait_for(sub { !sessions() }, 5);
sleep 0.3;
my $before = $fds->();
for (1 .. 40) { piped('imapd', "a LOGOUT\r\n") }
wait_for(sub { !sessions() }, 5);
ok(wait_for(sub { $fds->() <= $before }, 5), 'forty clients later no descriptor is left over') or note_lines("$before, now " . $fds->());

# ---- mutt's tunnel ----
my $home = "$cyrd->{dir}/home";
make_path($home);
$cyrd->client('alice')->append('INBOX', "From: a\@example.org\nTo: alice\@example.org\nSubject: seen through a tunnel\n\nhello\n");
spew("$home/muttrc", "set folder=imap://localhost/\nset spoolfile=imap://localhost/INBOX\nset tunnel=\"$bin/imapd -C $conf -p 128\"\nset imap_user=alice\n"
    . "set imap_pass=\"$Interop::password\"\nset header_cache=\"\"\nset sleep_time=0\nset move=no\nset quit=yes\nset wait_key=no\nset ssl_starttls=no\nset ssl_force_tls=no\nset resolve=no\n");
($st) = run_cmd(['script', '-qefc', "stty rows 40 cols 120; $mutt -n -F $home/muttrc -e 'push \"<last-entry><flag-message><sync-mailbox><quit>\"'", "$home/typescript"], timeout => 40,
    env => { HOME => $home, TERM => 'xterm', LC_ALL => 'C.UTF-8' });
is($st, 0, 'mutt through its tunnel');
like(slurp("$home/typescript"), qr/seen through a tunnel/, '... shows the mailbox');
my $w2 = $cyrd->client('alice');
$w2->select('INBOX');
like(join('', $w2->do('SEARCH FLAGGED SUBJECT tunnel')), qr/^\* SEARCH \d+\r?$/m, '... and changes it');
$w2->logout;
ok(wait_for(sub { !sessions() && !helpers('imapd') }, 10), '... and when mutt ends all is over');

# ---- a real Cyrus's master ----
my $cy = "$cyrd->{dir}/cyrus";
my ($mimap, $mlmtp, $mpop) = map { free_port() } 1 .. 3;
make_path(map { "$cy/$_" } qw(conf conf/socket conf/proc spool));
my $cyrus_user = $cyrd->{user} ? "cyrus_user: $cyrd->{user}\n" : '';
spew("$cy/imapd.conf", "configdirectory: $cy/conf\npartition-default: $cy/spool\n$cyrus_user");
spew("$cy/cyrus.conf", "START {\n}\nSERVICES {\n  imap cmd=\"$bin/imapd -C $conf -U 3\" listen=\"127.0.0.1:$mimap\" prefork=1\n"
    . "  pop3 cmd=\"$bin/pop3d -C $conf\" listen=\"127.0.0.1:$mpop\" prefork=0\n  lmtpunix cmd=\"$bin/lmtpd -C $conf\" listen=\"$cy/lmtp\" prefork=0\n"
    . "  lmtp cmd=\"$bin/lmtpd -C $conf\" listen=\"127.0.0.1:$mlmtp\" prefork=0\n}\nEVENTS {\n}\n");
run_cmd(['chown', '-R', $cyrd->{user}, $cy]) if $cyrd->{user};
my $mp = background($master, '-C', "$cy/imapd.conf", '-M', "$cy/cyrus.conf", '-p', "$cy/master.pid", '-D');
for (1 .. 8) {                                  # more than -U: processes end and new ones come
    my $c = tcp($mimap);
    my $greeting = line($c);
    like($greeting, qr/^\* OK .*Cyrd/, "Cyrus's master: our imapd, client $_");
    like(talk($c, 'a LOGOUT'), qr/^a OK/m, '... is served') if $_ % 4 == 0;
}
my @held = map { my $c = tcp($mimap); line($c); $c } 1 .. 5;
is(scalar(grep { $_->{service} eq 'imap' && $_->{peer} =~ /^127/ } sessions()), 5, 'five at once, with one process ready again after each');
ok(wait_for(sub { scalar(helpers('imapd')) <= 2 }, 10), '... which does not wait for them');          # while they are held
like(talk($_, 'a LOGOUT'), qr/^a OK/m, '... all are served') for @held;
my $p = tcp($mpop);
like(line($p), qr/^\+OK/, 'pop3d, not preforked');
like(talk($p, 'QUIT'), qr/^\+OK/, '... is served');
my $l = IO::Socket::UNIX->new(Peer => "$cy/lmtp") or die;
line($l);
talk($l, 'LHLO x');
like(talk($l, 'MAIL FROM:<>'), qr/^250/, 'lmtpd: on a Unix socket of the master\'s nobody has to log in, as with Cyrus');
talk($l, 'QUIT');
$l = tcp($mlmtp);
line($l);
talk($l, 'LHLO x');
like(talk($l, 'MAIL FROM:<>'), qr/^430/, '... by TCP he has');
talk($l, 'QUIT');
end_of($mp);
ok(wait_for(sub { !helpers('(?:imapd|pop3d|lmtpd)') }, 10), 'the master ends, and so do they');

# ---- no daemon runs ----
$cyrd->ends_well;
$t = time;
($st, $out) = piped('imapd', "a LOGIN alice $Interop::password\r\nb STATUS INBOX (MESSAGES)\r\nc LOGOUT\r\n", '-p', '128');
like($out, qr/^\* STATUS INBOX \(MESSAGES \d+\)\r\nb OK/m, 'without a daemon it is served all the same');
sub temporary { my (undef, $o) = $cyrd->ctl('--json', 'status'); my ($d) = map { JSON::decode_json($_) } grep { /"daemon"/ } split /\n/, $o; return $d->{temporary} ? $d->{pid} : 0 }
my $pid = temporary();
ok($pid && kill(0, $pid), '... by a temporary daemon');
my @t = map { tunnel(undef, '-p', '128') } 1 .. 3;
like(line($_->{from}), qr/^\* OK/, '... which takes more') for @t;
is(temporary(), $pid, '... the same one');
end_tunnel($_) for @t[0, 1];
sleep 3;
ok(kill(0, $pid), '... while one is there it stays');
print { $t[2]{to} } "a NOOP\r\n";
like(line($t[2]{from}), qr/^a OK/, '... and serves');
$t[2]{to}->flush;
end_tunnel($t[2]);
ok(wait_for(sub { !kill(0, $pid) }, 10), '... and ends when the last one has left');
is((run_cmd(["$Interop::build/cyrctl", '-C', $conf, 'check']))[0], 0, '... the store is in order');
# Many at once: one of them makes it, all are served.
@t = map { tunnel() } 1 .. 12;
is(scalar(grep { (line($_->{from}) // '') =~ /^\* OK/ } @t), 12, 'twelve at once, none of whom finds a daemon');
$pid = temporary();
is(scalar(grep { $_ == $pid } helpers('imapd')), 1, '... have one made');
# kill -9: everybody hears of it, the next one finds the store in order.
kill 'KILL', $pid;
is(scalar(grep { !defined line($_->{from}) } @t), 12, 'kill -9: they all see the end');
is(join(' ', map { end_tunnel($_) } @t), join(' ', (0) x 12), '... and end');
($st, $out) = piped('imapd', "a LOGOUT\r\n");
like($out, qr/^a OK/m, '... and the next one is served');
# The real one comes.
my $guest = tunnel();
line($guest->{from});
ok(temporary(), 'a temporary daemon has the store');
$t = time;
$cyrd->start;
ok(!temporary() && time - $t < 8, 'cyrd starts: the temporary one makes way');
like(line($guest->{from}), qr/^\* BYE/, '... and has said goodbye');
end_tunnel($guest);
($st, $out) = piped('imapd', "a LOGOUT\r\n");
like($out, qr/^a OK/m, '... the next one goes to the real one');
is((run_cmd(["$bin/cyrd", '-C', $conf, '-M', "$cyrd->{dir}/cyrus.conf"], timeout => 20))[0], 1, 'which makes way for nobody');
$cyrd->ends_well;
done;
