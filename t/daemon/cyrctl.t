#!/usr/bin/perl
# cyrctl as people and programs use it: every command is there, exit statuses, --json, top (once, as a program, on a terminal), trace (of
# users and sessions, open ones too, followed), config check, info. What single commands do to mailboxes is tested elsewhere.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../interop";
use Interop;
use JSON qw(decode_json);
use IO::Socket::INET;
use Time::HiRes qw(sleep time);

my $pop = free_port();
my $cyrd = Interop->new(imap => "telemetry_max_size: 4K\npop_allowplaintext: yes\n", services => "  pop cmd=\"pop3d\" listen=\"127.0.0.1:$pop\"\n")->start;
my $conf = "$cyrd->{dir}/imapd.conf";
sub like { my ($got, $re, $name) = @_; return ok(defined $got && $got =~ $re, $name) || (note_lines('got: ' . ($got // 'undef')), 0)[1] }
sub rows { my ($text) = @_; return map { my $j = eval { decode_json($_) }; note_lines("no JSON: $_") if !$j; $j ? ($j) : () } split /\n/, $text }
sub json { my (@args) = @_; my ($st, $out) = run_cmd(["$Interop::build/cyrctl", '-C', $conf, '--json', @args], err => 1); return ($st, rows($out)) }

sub rows_of { my (undef, @rows) = json(@_); return @rows }

# ---- what there is, exit statuses ----
my (undef, $help) = $cyrd->ctl('--help');
my %commands = map { /^  (\w+)/ ? ($1 => 1) : () } split /\n/, $help;
my @missing = grep { !$commands{$_} } qw(status sessions top config user mailbox acl quota list info metadata reconstruct expire import export check metrics trace);
is("@missing", '', 'every command is there');
is(($cyrd->ctl('status'))[0], 0, 'done: 0');
is(($cyrd->ctl('mailbox', 'info', 'user/nobody'))[0], 1, 'refused: 1');
is(($cyrd->ctl(@$_))[0], 2, "wrong usage: 2 (@$_)") for [], ['frob'], ['mailbox'], ['trace', 'on'], ['mailbox', 'info'], ['list', 'a', 'b'], ['top', '--sort', 'x'], ['top', '-i', '0'],
    ['top', '--frob'], ['-Z'], ['trace', 'on', 'alice', '-t', 'x'];
is((run_cmd(["$Interop::build/cyrctl", '-C', $conf, '-S', '/nowhere', 'sessions']))[0], 3, 'no daemon: 3');
is((run_cmd(["$Interop::build/cyrctl", '-C', '/nowhere', 'status']))[0], 3, 'no configuration: 3');
my ($st, $out) = run_cmd(["$Interop::build/cyrctl", '-C', $conf, '--json', 'mailbox', 'info', 'user/nobody'], err => 1);
my ($row) = rows($out);
ok($row->{code} eq 'notfound' && length $row->{error}, 'with --json an error is a row too');
($st, $out) = run_cmd(["$Interop::build/cyrctl", '--json', 'frob'], err => 1);
($row) = rows($out);
is($row->{code}, 'syntax', '... and so is wrong usage');
my $bytes = "user/\xc3";
($st, $out) = run_cmd(["$Interop::build/cyrctl", '-C', $conf, '--json', 'mailbox', 'info', $bytes], err => 1);
is($st, 2, 'an argument that is not UTF-8 is refused');
is(scalar(rows($out)), 1, '... with a row');

# ---- info ----
my @info = rows_of('info');
my %server = map { ($_->{kind} // '') eq 'server' ? ($_->{name} => $_->{value}) : () } @info;
is($server{state}, 'running', 'info: the daemon runs');
is($server{pid}, $cyrd->{pid}, 'info: its process');
ok((grep { ($_->{kind} // '') eq 'library' && $_->{name} eq 'gnutls' && $_->{version} =~ /^3/ } @info), 'info: libraries');
ok((grep { ($_->{kind} // '') eq 'program' && $_->{program} eq 'imapd' && $_->{built} } @info), 'info: programs');
my $alice = $cyrd->client('alice');
is(($cyrd->ctl('acl', 'set', 'user/alice', 'bob', 'zz9'))[0], 2, 'rights that are none: 2');
like(($cyrd->ctl('info', 'user/alice'))[1], qr{user/alice}, 'info of a mailbox');
is(($cyrd->ctl('info', 'user/nobody'))[0], 1, 'info of none');

# ---- metrics ----
my %metric = map { join(',', $_->{name}, sort values %{ $_->{labels} }) => $_->{value} } rows_of('metrics');
ok($metric{'cyrd_connections,imap,imaps'} >= 1 && $metric{'cyrd_uptime_seconds'} >= 0 && exists $metric{'cyrd_sync_seconds_bucket,+Inf'}, 'metrics as JSON: a row for each sample, with its labels');
like(($cyrd->ctl('metrics'))[1], qr/^# TYPE cyrd_sessions gauge\ncyrd_sessions\{state="parked"\} \d+$/m, '... and as Prometheus reads it');

# ---- mailboxes in errors: as an administrator writes them ----
{
    sub refused { my ($want, @args) = @_; my ($st, $out) = $cyrd->ctl(@args); is("$st $out", "1 cyrctl: $want\n", "error: $want") }
    is(($cyrd->ctl('user', 'create', $_))[0], 0, "user $_") for 'joe', 'sue';
    is(($cyrd->ctl('mailbox', 'create', $_))[0], 0, "mailbox $_") for 'user/joe/a', 'user/sue/x.y z', 'Team', 'Team/k', 'Team/k l';
    open my $mbox, '>', "$cyrd->{dir}/mbox" or die $!;
    print $mbox "From x\@example.org Thu Jan  1 00:00:00 2026\nSubject: x\n\nx\n";
    close $mbox;
    is(($cyrd->ctl('import', 'Else/k l', "$cyrd->{dir}/mbox"))[0], 0, 'a mailbox without one above it');
    refused('mailbox user/joe/a exists', 'mailbox', 'create', 'user/joe/a');
    refused('mailbox user/sue/x.y z exists', 'mailbox', 'rename', 'user/joe/a', 'user/sue/x.y z');
    refused('mailbox Else/k l exists', 'mailbox', 'rename', 'Team', 'Else');
    refused('mailbox user/joe exists', 'user', 'create', 'joe');
    refused('mailbox user/sue exists', 'user', 'rename', 'joe', 'sue');
    refused('no user nobody', 'user', @$_) for ['rename', 'nobody', 'x'], ['delete', 'nobody'], ['move', 'nobody', 'default'];
    refused('user/joe/a is in partition default already', 'mailbox', 'move', 'user/joe/a', 'default');
    is((json('user', 'rename', 'joe', 'sue'))[1]{error}, 'mailbox user/sue exists', 'with --json too');
    $cyrd->ctl('mailbox', 'delete', '-rn', $_) for 'Team', 'Else';
    $cyrd->ctl('user', 'delete', '-n', $_) for 'joe', 'sue';
}

# ---- top ----
my $bob = $cyrd->client('bob');
$bob->do('SELECT INBOX');
my $busy = fork // die;
if (!$busy) {
    my $end = time + 60;
    my $text = "Subject: x\r\n\r\n" . 'y' x 100_000 . "\r\n";
    my $c = $cyrd->client('alice');
    $c->append('INBOX', $text);
    $c->do('SELECT INBOX');
    while (time < $end) { eval { $c->do('FETCH 1 BODY.PEEK[]'); 1 } or last; sleep 0.02 }
    POSIX::_exit(0);
}
wait_for(sub { (grep { ($_->{user} // '') eq 'alice' && $_->{bytes_out} > 300_000 } rows_of('sessions')) ? 1 : 0 }, 20);
($st, my @top) = json('top', '--interval', '0.5');
is($st, 0, 'top: one picture');
my ($daemon) = grep { $_->{kind} eq 'daemon' } @top;
my @alices = grep { $_->{kind} eq 'session' && $_->{user} eq 'alice' } @top;
is(scalar(grep { $_->{kind} eq 'daemon' } @top), 1, '... of the daemon');
is(scalar(@alices), 2, '... of each session');
ok($alices[0]{out_rate} > 100_000 && $alices[1]{out_rate} == 0, 'the busy one comes first, with its rate') or note_lines($out = join ' ', map { $_->{out_rate} } @alices);
ok($daemon->{rates}{bytes_out} >= 100_000 && $daemon->{rates}{logins} == 0 && $daemon->{interval_s} > 0.3, 'rates of the daemon');
ok(!(grep { ($_->{service} // '') eq 'cyrctl' } @top), 'cyrctl itself is not in it');
($st, @top) = json('top', '--users', '-c', '3', '-i', '0.3');
is(scalar(grep { $_->{kind} eq 'daemon' } @top), 3, 'three pictures');
my @by_user = grep { $_->{kind} eq 'user' && $_->{picture} == 3 } @top;
is(join(' ', map { "$_->{user}=$_->{sessions}" } @by_user), 'alice=2 bob=1', 'by user, the busy one first');
ok($by_user[0]{out_rate} > 50_000 && $by_user[1]{out_rate} == 0, 'with what they get');
($st, $out) = $cyrd->ctl('top', '-i', '0.3', '-n', '1', '--sort', 'user');
like($out, qr/^cyrd .*\n.*logins.*\n.*\n\nUser .*\nalice .*\nand 2 more\n\z/, 'as text: a head, a table, what did not fit');
ok($out !~ /\e/, 'without a terminal no escape sequences');
# Forgotten: who has left.
$bob->logout;
wait_for(sub { !(grep { ($_->{user} // '') eq 'bob' } rows_of('sessions')) }, 10);
($st, @top) = json('top', '-c', '1', '-i', '0.2');
ok(!(grep { ($_->{user} // '') eq 'bob' } @top), 'who has left is not in it');
# On a terminal: a screen of its own, keys, and everything as it was afterwards.
sub on_terminal {
    my ($keys, @args) = @_;
    my $type = "$cyrd->{dir}/typescript";
    unlink $type;
    # Control-C is for the whole process group: the shell lives on.
    my $cmd = join ' ', "trap : INT; stty rows 20 cols 70; $Interop::build/cyrctl -C $conf top", @args, '; echo "status $?"; stty -a | grep -c -- " -icanon"';
    my $pid = open(my $in, '|-', "script -qefc '$cmd' $type >/dev/null 2>&1") // die;
    my $old = select $in;
    $| = 1;
    select $old;
    for my $k (@$keys) { sleep 0.7; print $in $k }
    wait_for(sub { (slurp($type) // '') =~ /status \d+\s+\d+\s/ }, 15);
    close $in;
    return (slurp($type) // '') =~ s/\AScript started.*\n//r;
}
$ENV{TERM} = 'xterm';
$out = on_terminal(['u', 's', 'q'], '-i', '0.5');
like($out, qr/\e\[\?1049h.*\e\[\?1049l/s, 'on a terminal it has a screen of its own and gives it back');
like($out, qr/users, s sorts \(by rate\).*sessions, s sorts \(by rate\).*sessions, s sorts \(by in\)/s, 'u and s change the picture');
like($out, qr/status 0\s+0\s/, 'q ends it, the terminal is as it was');
ok(!(grep { length > 70 } map { s/\e\[[\d?]*[A-Za-z]//gr } split /[\r\n]+|\e\[H/, $out =~ /(\e\[\?1049h.*?)\e\[\?1049l/s ? $1 : 'x' x 99), 'no line is wider than the terminal');
$out = on_terminal(["\x03"], '-i', '60');
like($out, qr/\e\[\?1049l.*status 0\s+0\s/s, 'Control-C ends it the same way');
$out = on_terminal([], '-i', '0.2', '-c', '2');
like($out, qr/\e\[\?1049l.*status 0\s+0\s/s, '--count ends it by itself');
$ENV{TERM} = 'dumb';
$out = on_terminal([], '-i', '0.2');
ok($out !~ /\e/ && $out =~ /^cyrd .*status 0/s, 'a dumb terminal gets text');
kill 'TERM', $busy;
waitpid $busy, 0;

# Long work: a line that goes again, on a terminal only.
sub typed { my ($cmd) = @_; run_cmd(['script', '-qefc', $cmd, "$cyrd->{dir}/typescript"], timeout => 60); return (slurp("$cyrd->{dir}/typescript") // '') =~ s/\AScript started.*\n//r }
my $c = $cyrd->client('bob');
$c->append('INBOX', "Subject: $_\r\n\r\nx\r\n") for 1 .. 70;
like(typed("$Interop::build/cyrctl -C $conf check"), qr{\r\e\[K\[#+\.+\] 1/\d+ mailboxes, .*left.*\r\e\[K.*summary}s, 'check shows how far it is, and clears that away');
like(typed("$Interop::build/cyrctl -C $conf check user/bob"), qr{\[#+\.+\] 1/\d+ mailboxes}, '... of one user too');
like(typed("$Interop::build/cyrctl -C $conf export -m user/bob $cyrd->{dir}/exported"), qr{\[#+\.+\] 64/70 messages, .*left}, 'export too');
like(typed("$Interop::build/cyrctl -C $conf import user/bob $cyrd->{dir}/exported/INBOX"), qr{\[#+\.+\] 64/70 messages, .*left}, 'import of an mbox too');
ok((run_cmd(["$Interop::build/cyrctl", '-C', $conf, 'check']))[1] !~ /\e|left/, 'elsewhere there is no such line');
ok(typed("$Interop::build/cyrctl -C $conf --json check") !~ /\e|left/, '... nor with --json');
$c->logout;

# ---- trace ----
my $log = "$cyrd->{dir}/conf/log";
sub text_of { my ($pattern) = @_; return join '', map { slurp($_) // '' } glob $pattern }
sub session_of { my ($user, $service) = @_; return (map { $_->{session} } grep { ($_->{user} // '') eq $user && (!$service || $_->{service} eq $service) } rows_of('sessions'))[0] }
is(($cyrd->ctl('trace', 'on', 'alise'))[0], 1, 'trace on: nobody is called that');
ok(!-e "$log/alise", '... and nothing is made');
is(($cyrd->ctl('trace', 'on', '-u', 'postman'))[0], 0, '... unless it is said to be a user');
ok(-d "$log/postman", '... who gets a directory');
is(($cyrd->ctl('trace', 'on', $_))[0], 1, "trace on: \"$_\" stays in its directory") for '../alice', '.sessions', 'a/b';
# IDLE: a session that says nothing takes notice at once.
my $idle = $alice->{s};
$alice->do('SELECT INBOX');
print $idle "i1 IDLE\r\n";
wait_for(sub { my $l = $alice->line; $l =~ /^\+/ }, 5);
($st, $row) = json('trace', 'on', 'alice');
ok($st eq '0' && $row->{on} && !$row->{was_on} && $row->{left_s} > 3500 && $row->{left_s} <= 3600, 'trace on, for an hour');
$cyrd->deliver('alice', "Subject: told\n\nyou have mail\n");
ok(wait_for(sub { text_of("$log/alice/imaps-*") =~ /EXISTS/ }, 5), 'a session in IDLE is recorded at once');
print $idle "DONE\r\n";
1 until $alice->line =~ /^i1 /;
my $second = $cyrd->client('alice');
$second->do('NOOP');
like(text_of("$log/alice/imaps-*"), qr/NOOP/, 'a new session too');
ok(text_of("$log/alice/*") !~ /\Q$Interop::password\E/, 'no password is in it');
is(($cyrd->ctl('trace', 'off', 'alice'))[0], 0, 'trace off');
my $before = text_of("$log/alice/*");
$alice->do('NOOP');
$second->do('CAPABILITY');
is(text_of("$log/alice/*"), $before, 'nothing is recorded any more, what was stays');
$second->do('CAPABILITY') for 1 .. 2;
($st, my @list) = json('trace');
($row) = grep { ($_->{user} // '') eq 'alice' } @list;
ok(!$row->{on} && $row->{files} == 2 && $row->{octets} == length $before, 'trace tells of it');
# A time that is over; and the way an administrator of Cyrus does it.
is(($cyrd->ctl('trace', 'on', 'alice', '--minutes', '1'))[0], 0, 'trace on, for a minute');
utime time - 5, time - 5, "$log/alice/.until" or die;
sleep 1.1;
$alice->do('NOOP');
$before = text_of("$log/alice/*");
$alice->do('NOOP');
is(text_of("$log/alice/*"), $before, 'when its time is over nothing is recorded');
run_cmd(['rm', '-r', "$log/alice", "$log/postman"]);
run_cmd(['mkdir', "$log/alice"]);
run_cmd(['chown', '--reference', $log, "$log/alice"]);
sleep 1.1;
$alice->do('NOOP');
$alice->do('CAPABILITY');
like(text_of("$log/alice/*"), qr/CAPABILITY/, 'mkdir log/USER does it too, as in Cyrus');
run_cmd(['rm', '-r', "$log/alice"]);
sleep 1.1;
$alice->do('NOOP');
# One session, and not its neighbour.
my $one = session_of('alice');
($st, $row) = json('trace', 'on', '-t', '0', $one);
ok($st eq '0' && $row->{kind} eq 'session' && $row->{user} eq 'alice' && !exists $row->{left_s}, 'trace on of a session, without an end');
$_->do('NOOP'), $_->do('NOOP') for $alice, $second;
is(scalar(my @files = glob "$log/.sessions/*"), 1, 'one session is recorded');
like($files[0], qr/\Q$one\E$/, '... that one');
like(text_of("$log/.sessions/*"), qr/^---------- alice .*\n\n<\d+<w\d+ NOOP\r\n>\d+>w\d+ OK/, '... in Cyrus\'s form');
($st, @list) = json('trace', 'list');
ok((grep { ($_->{session} // '') eq $one && $_->{on} } @list), 'trace list has it');
# The bound.
$second->do('NOOP') for 1 .. 150;
$alice->do('NOOP') for 1 .. 150;
my $size = -s $files[0];
ok($size > 3500 && $size < 4200, "telemetry_max_size ends it ($size octets)");
like(text_of($files[0]), qr/telemetry_max_size is reached\n\z/, '... and says so');
is(($cyrd->ctl('trace', 'off', $one))[0], 0, 'trace off of a session');
is(($cyrd->ctl('trace', 'on', 'ffffffff-1'))[0], 1, 'no such session');

# ---- trace follow ----
sub follow {
    my ($args, $do) = @_;
    my $out = "$cyrd->{dir}/followed";
    my $pid = fork // die;
    if (!$pid) {
        open STDOUT, '>', $out;
        open STDERR, '>', "$out.err";
        open STDIN, '<', '/dev/null';
        exec "$Interop::build/cyrctl", '-C', $conf, @$args;
    }
    $do->(sub { my ($re, $s) = @_; return wait_for(sub { (slurp($out) // '') =~ $re }, $s // 10) }, $pid);
    my $end = wait_for(sub { waitpid($pid, POSIX::WNOHANG()) == $pid }, 10);
    my $status = $end ? $? : undef;
    if (!$end) { kill 'KILL', $pid; waitpid $pid, 0 }
    return (defined $status ? $status & 127 ? 'signal' : $status >> 8 : 'hangs', slurp($out) // '', slurp("$out.err") // '');
}
my $third = $cyrd->client('alice');
($st, $out) = follow(['trace', 'follow', 'alice'], sub {
    my ($seen, $pid) = @_;
    wait_for(sub { (grep { ($_->{user} // '') eq 'alice' && $_->{on} } rows_of('trace')) ? 1 : 0 }, 10);
    for (1 .. 50) { $third->do('NOOP'); last if $seen->(qr/NOOP/, 0.2) }
    ok($seen->(qr/^==> imaps-\S+ <==$/m), 'follow shows whose words they are');
    my $new = $cyrd->client('alice');
    $new->do('CREATE Followed');
    ok($seen->(qr/CREATE Followed/), 'a session that begins meanwhile is followed too');
    kill 'INT', $pid;
});
is($st, 0, 'an interrupt ends it');
($st, @list) = json('trace');
ok(!(grep { ($_->{user} // '') eq 'alice' && $_->{on} } @list), '... and the trace is off again');
my $hostile = session_of('alice', 'imaps');
($st, $out) = follow(['--json', 'trace', 'follow', session_of('alice')], sub {
    my ($seen, $pid) = @_;
    for (1 .. 50) { $_->try("x\x1b]0;owned\x07 \xff") for $alice, $second, $third; $_->do('NOOP') for $alice, $second, $third; last if $seen->(qr/owned/, 0.2) }
    ok($seen->(qr/owned/), 'follow one session as JSON');
    $_->logout for $alice, $second, $third;
});
is($st, 0, 'it ends with the session');
my @followed = rows($out);
ok(@followed > 0 && !(grep { !exists $_->{text} || !$_->{session} } @followed), 'every line is a row');
ok($out !~ /[\x00-\x09\x0b-\x1f]/, '... without control characters');
# POP3 and LMTP: open sessions.
my $p = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $pop) or die;
my $talk = sub { my ($s, $l) = @_; print $s "$l\r\n" if defined $l; return scalar <$s> };
$talk->($p);
$talk->($p, 'USER alice');
like($talk->($p, "PASS $Interop::password"), qr/^\+OK/, 'POP3: log in');
json('trace', 'on', 'alice');
like($talk->($p, 'STAT'), qr/^\+OK/, '... and go on');
ok(wait_for(sub { text_of("$log/alice/pop-*") =~ /STAT/ }, 5), 'an open POP3 session is recorded');
json('trace', 'off', 'alice');
my $l = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $cyrd->{lmtp}) or die;
$talk->($l);
my ($lmtp) = map { $_->{session} } grep { ($_->{service} // '') eq 'lmtp' } rows_of('sessions');
is((json('trace', 'on', $lmtp))[0], 0, 'an LMTP session, which has no user, can be recorded');
$talk->($l, 'NOOP');
ok(wait_for(sub { text_of("$log/.sessions/lmtp-$lmtp") =~ /^---------- - .*NOOP/s }, 5), '... and is');
close $_ for $p, $l;

# ---- config check ----
my $options = slurp("$Interop::top/t/data/cyrus-3.6-options");
my @names = grep { /^\w/ } split /\n/, $options;
ok(@names > 500, scalar(@names) . ' options of Cyrus 3.6');
my (undef, $table) = run_cmd(["$Interop::build/cyrd", '--dump-options']);
my %default = map { my @f = split /\t/; ($f[0] => $f[2]) } split /\n/, $table;
my %type = map { my @f = split /\t/; ($f[0] => $f[1]) } split /\n/, $table;
my %value_of = (string => 'x', bytes => '1M', int => 1, switch => 'yes', duration => '1d', set => 'cache');
my @lines = map { my $v = $default{$_} // '1'; $v = $value_of{ $type{$_} // 'string' } if $v eq '-' || $v eq 'empty' || $v eq ''; "$_: $v" } grep { !/^(?:configdirectory|defaultpartition)$/ } @names;
spew("$cyrd->{dir}/all.conf", join "\n", "configdirectory: $cyrd->{dir}/conf", 'defaultpartition: default', "partition-default: $cyrd->{dir}/spool", @lines, '');
my ($status, @rows) = json('config', 'check', "$cyrd->{dir}/all.conf", "$cyrd->{dir}/cyrus.conf");
my %told = map { ($_->{kind} // '') eq 'option' ? ($_->{option} => $_) : () } @rows;
is(join(' ', grep { !$told{$_} } @names), '', 'each of them is explained');
is(join(' ', grep { ($told{$_}{state} // "unknown") eq 'unknown' } @names), '', '... none is unknown');
is(join(' ', grep { length($told{$_}{why} // '') < 5 } @names), '', '... each says why');
like($told{tls_cert_file}{state}, qr/^translated|ignored$/, 'an old name is translated');
like($told{tls_cert_file}{why}, qr/old name of tls_server_cert/, '... and says to what');
is($told{httpmodules}{state}, 'ignored', 'an option of a service that is not there');
is($told{sync_password}{value}, '(not shown)', 'a password is not shown');
($st, $out) = $cyrd->ctl('config', 'check', $conf, "$cyrd->{dir}/cyrus.conf");
is($st, 0, 'files that are right: 0') or note_lines($out);
like($out, qr{^\Q$conf\E:1: configdirectory: \Q$cyrd->{dir}/conf\E\n        honoured: \S}m, 'as text: the line, what becomes of it, why');
like($out, qr{cyrus\.conf:\d+: SERVICES imap: listen=127\.0\.0\.1:\d+\n        honoured: }, 'cyrus.conf too');
like($out, qr/munge8bit is not set: here it is no, in Cyrus yes/, 'defaults that differ from Cyrus\'s');
(undef, $out) = $cyrd->ctl('config', 'check', '-q', $conf, "$cyrd->{dir}/cyrus.conf");
ok($out !~ /honoured: / && $out =~ /\d+ honoured, /, '-q leaves out what is simply honoured');
sub check_of { my ($imapd, $cyrus) = @_; spew("$cyrd->{dir}/c.conf", slurp($conf) . ($imapd // '')); spew("$cyrd->{dir}/c.master", $cyrus // slurp("$cyrd->{dir}/cyrus.conf")); return json('config', 'check', "$cyrd->{dir}/c.conf", "$cyrd->{dir}/c.master") }
for ([ 'an unknown option', "alowplaintext: yes\n", undef, 'unknown' ], [ 'a value out of grammar', "quotawarn: nope\n", undef, 'wrong' ],
    [ 'an option of a service that is not there', "pop9_timeout: 30\n", undef, 'unknown' ], [ 'an unknown key', '', "SERVICES {\n imap cmd=\"imapd\" listen=\"143\" prefrok=3\n}\n", 'unknown' ]) {
    my ($what, $imapd, $master, $state) = @$_;
    ($st, @rows) = check_of($imapd, $master);
    ok($st eq '1' && (grep { ($_->{state} // '') eq $state } @rows), "$what: $state, and 1") or note_lines(join "\n", map { join ' ', %$_ } @rows);
}
for ([ 'SERVICES', 'maxchild', 'ten', 'maxchild: "ten" is not a number from -1 to 1000000' ], [ 'SERVICES', 'prefork', 'x', 'prefork: "x" is not a number from 0 to 1000000' ],
    [ 'SERVICES', 'babysit', 'q', 'babysit: "q" is not yes or no' ], [ 'EVENTS', 'at', '2561', 'at: "2561" is not a time of day (hhmm)' ],
    [ 'EVENTS', 'period', 'x', 'period: "x" is not a number from 0 to 1000000' ]) {
    my ($section, $key, $value, $message) = @$_;
    my $listen = $section eq 'SERVICES' ? 'listen="143"' : '';
    ($st, @rows) = check_of('', "SERVICES {\n other cmd=\"imapd\" listen=\"144\" maxchild=5\n}\n" x ($section ne 'SERVICES') . "$section {\n e cmd=\"imapd\" $listen $key=$value\n}\n");
    my ($row) = grep { ($_->{kind} // '') eq 'entry' && $_->{option} eq $key && $_->{entry} eq 'e' } @rows;
    is("$st $row->{state} $row->{why}", "1 wrong $message", "cyrus.conf, $key=$value: wrong, at the key");
    ok((grep { ($_->{kind} // '') eq 'problem' && $_->{text} eq $message } @rows), '... as cyrd -t says it');
    is(scalar(grep { ($_->{state} // '') eq 'wrong' } @rows), 1, '... and nothing else is wrong');
}
for my $key ('partition-', 'metapartition-', 'imap_sasl_', 'xlist-') {
    ($st, @rows) = check_of("$key: /x\n");
    my ($row) = grep { ($_->{option} // '') eq $key } @rows;
    my ($problem) = grep { ($_->{kind} // '') eq 'problem' && $_->{text} =~ /^\Q$key\E: nothing is named/ } @rows;
    ok($st eq '1' && $row->{state} eq 'wrong' && $problem && $problem->{line} && $problem->{column} == length($key) + 3, "$key without a name: wrong, and where")
        or note_lines(join "\n", map { join ' ', %$_ } @rows);
}
(undef, $out) = $cyrd->ctl('config', 'check', $conf, '/nope');
like($out, qr{^error: /nope: No such file or directory\n.*; 1 error, 0 warnings$}ms, 'a file that cannot be read is named once; one error is one');
($st, @rows) = check_of("tls_versions: tls1_0 tls1_2\nautocreatequota: 5\nvirtdomains: yes\nsquatter_debug: yes\nx_sync_host: y\n");
ok((grep { ($_->{option} // '') eq 'autocreatequota' && $_->{why} =~ /Line \d+ says otherwise/ } @rows), 'the same option under two names: which line is in force');
my %s = map { ($_->{kind} // '') eq 'option' ? ($_->{option} => $_->{state}) : () } @rows;
is("$s{tls_versions} $s{virtdomains} $s{squatter_debug} $s{x_sync_host}", 'translated translated honoured honoured', 'what is read as something else; options of programs and channels');
is($s{autocreatequota}, 'ignored', 'an old name loses against the new one');
is($st, 0, '... and nothing of that is wrong');
($st, @rows) = check_of('', "START {\n r cmd=\"/usr/sbin/cyrus ctl_cyrusdb -r\"\n}\nSERVICES {\n imap cmd=\"/usr/lib/cyrus/bin/imapd -U 30\" listen=\"143\" prefork=3 maxchild=9 maxfds=7\n sieve cmd=\"timsieved\" listen=\"4190\"\n own cmd=\"/bin/cat\" listen=\"9\" prefork=1\n}\nEVENTS {\n x cmd=\"/bin/true\" period=5 at=0401\n}\nDAEMON {\n idled cmd=\"idled\"\n}\n");
my %m = map { ($_->{kind} // '') eq 'entry' ? ("$_->{entry} $_->{option}" => $_->{state}) : () } @rows;
is(join(' ', map { $m{$_} } 'r cmd', 'imap cmd', 'imap prefork', 'imap maxchild', 'imap maxfds', 'sieve cmd', 'own cmd', 'own prefork', 'x period', 'x at', 'idled cmd'),
    'translated translated ignored translated ignored later honoured honoured ignored honoured translated', 'cyrus.conf key by key');
is((json('config', 'check', '/nowhere', "$cyrd->{dir}/cyrus.conf"))[0], 1, 'a file that is not there');
($st, $out) = run_cmd(["$Interop::build/cyrctl", 'config', 'check', $conf, "$cyrd->{dir}/cyrus.conf"]);
is($st, 0, 'it needs no /etc/imapd.conf');

($st, $out) = run_cmd(["$Interop::build/cyrctl", '-C', $conf, '-S', '/nowhere', 'list']);
ok($st == 3 && $out =~ m{nobody listens on /nowhere, but the store is in use: .*locked by another process}, 'another socket than the daemon\'s: 3, and why') or note_lines($out);
($st, $out) = run_cmd(["$Interop::build/cyrctl", '-C', $conf, 'frobnicate']);
is("$st $out", "2 cyrctl: no such command: frobnicate\n(cyrctl --help)\n", 'an error is not hidden by a list of all commands');
($st, $out) = $cyrd->ctl('mailbox', 'create', '-x');
ok($st == 2 && $out =~ /there is no option -x; an argument that begins so stands behind --/, 'an unknown option is no name') or note_lines($out);

# ---- without the daemon ----
$cyrd->ends_well;
is((json('top'))[0], 3, 'top wants the daemon');
($st, $row) = json('trace', 'on', 'bob');
ok($st eq '0' && $row->{on} && -d "$log/bob", 'a user\'s trace can be switched on without it');
is((json('trace', 'off', 'bob'))[0], 0, '... and off');
like((json('info'))[3]{value}, qr/stopped/, 'info says that it is down');
done;
