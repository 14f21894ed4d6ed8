#!/usr/bin/perl
# deliver: from standard input by LMTP into mailboxes: arguments, exit statuses, what becomes of the octets, servers that fail.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../interop";
use Interop;
use IO::Socket::UNIX;
use POSIX qw(_exit);

my $links = ($ENV{TMPDIR} || '/tmp') . "/cyrd-names-$$";
my $me = $$;
mkdir $links or die "$links: $!";
END { if ($$ == $me) { unlink glob "$links/*"; rmdir $links } }
symlink "$Interop::build/cyrd", "$links/deliver";
chmod 0755, $links;
my $cyrd = Interop->new(imap => "postuser: post\nlmtptxn_timeout: 2\n");
spew("$cyrd->{dir}/imapd.conf", slurp("$cyrd->{dir}/imapd.conf") =~ s/^autocreate_post: yes/autocreate_post: no/mr);
$cyrd->start;
spew("$cyrd->{dir}/deliver.conf", slurp("$cyrd->{dir}/imapd.conf") =~ s/^lmtpsocket:.*\n//mr . "lmtpsocket: $cyrd->{lmtp_socket}\n", 0644);
my $conf = "$cyrd->{dir}/deliver.conf";
my $n = 0;
sub deliver { my ($message, @args) = @_; return run_cmd(["$links/deliver", '-C', $conf, @args], in => $message, err => 1) }
sub message { $n++; return "Message-ID: <$n\@deliver>\nFrom: a\@example.org\nSubject: $n\n\nbody $n\n" }
sub like { my ($got, $re, $name) = @_; return ok($got =~ $re, $name) || (note_lines("got: $got"), 0)[1] }

my $admin = $cyrd->client('admin');
$admin->do('CREATE shared/box');
$admin->do('SETACL shared/box anyone lrsp');
my ($alice, $bob) = map { $cyrd->client($_) } qw(alice bob);
$alice->do('CREATE Box');
$alice->do('SETACL Box bob lrp');
$alice->do('CREATE "Two Words"');
$alice->do('SETACL "Two Words" anyone p');
sub count { my ($c, $box) = @_; return (map { /MESSAGES (\d+)/ ? $1 : () } $c->do("STATUS \"$box\" (MESSAGES)"))[0] }
sub last_one { my ($c, $box) = @_; $c->do("EXAMINE \"$box\""); my ($f) = map { /^(?s:.*?)\{\d+\}\r\n(.*)\)\r\n\z/s ? $1 : () } $c->do('FETCH * BODY.PEEK[]'); return $f // '' }

# where it goes
my ($st, $out, $err) = deliver(message(), 'alice');
is("$st $out$err", '0 ', 'one user: nothing is said');
is(count($alice, 'INBOX'), 1, 'it is there');
($st, $out) = deliver(message(), 'alice', 'bob');
is($st . count($alice, 'INBOX') . count($bob, 'INBOX'), '021', 'two users');
is((deliver(message(), '-m', 'Two Words', 'alice'))[0] . count($alice, 'Two Words'), '01', '-m: a folder, whatever its name');
is((deliver(message(), '-m', 'Box', 'alice'))[0] . count($alice, 'Box') . count($alice, 'INBOX'), '003', 'nobody may not post there: INBOX');
is((deliver(message(), '-a', 'bob', '-m', 'Box', 'alice'))[0] . count($alice, 'Box'), '01', '-a: bob may');
is((deliver(message(), '-m', 'shared/box'))[0] . count($bob, 'Shared Folders/shared/box'), '01', '-m without a user: a shared mailbox');
is((deliver(message(), '-a', 'bob', '-m', 'user/alice/Trash'))[0], 65, 'no right, no INBOX to fall back to');
is((deliver(message(), 'alice+Box@example.org', '-x'))[0], 64, 'options come first; an unknown one');
my $same = message();
is(join(' ', map { (deliver($same, 'bob'))[0] } 1 .. 3) . ' ' . count($bob, 'INBOX'), '0 0 0 2', 'three times the same: delivered once');

# who cannot get it
($st, $out) = deliver(message(), 'nobody-here');
is("$st $out", "65 nobody-here: Mailbox does not exist\n", 'an unknown user');
($st, $out) = deliver(message(), 'nobody-here', 'alice', 'nor-this');
is("$st $out", "65 nobody-here: Mailbox does not exist\nnor-this: Mailbox does not exist\n", 'the others get it');
is(count($alice, 'INBOX'), 4, 'alice has');
$admin->do('SETQUOTA user/bob (MESSAGE 0)');
($st, $out) = deliver(message(), 'bob');
is("$st $out", '75 ', 'over quota: come again');
is((deliver(message(), '-q', 'bob'))[0] . count($bob, 'INBOX'), '03', '-q');
($st, $out) = deliver(message(), 'nobody-here', 'bob');
is("$st $out", "75 nobody-here: Mailbox does not exist\n", 'a temporary failure counts more');
$admin->do('SETQUOTA user/bob ()');
($st, $out) = deliver("A: b\n\na\0b\n", 'alice');
like("$st $out", qr/^65 alice: .*NUL/, 'a message that is refused, and why');
is((deliver(message(), $_))[0], 65, 'an address that is none') for '', '@example.org', "alice\r\nDATA", "alice>\r\nRCPT TO:<bob", 'alice@exa mple', 'alice@<>';
is(count($alice, 'INBOX') . count($bob, 'INBOX'), '43', 'and smuggles nothing');
($st, $out) = deliver(message(), '-f', "a>\r\nRCPT TO:<bob", 'alice');
is("$st " . count($bob, 'INBOX'), '65 3', 'nor does a return path');

# usage
is((deliver('', @$_))[0], 64, "usage: @$_") for [], ['-E', '3'], ['-F', '\\Seen'], ['-m', 'a', '-m', 'b', 'alice'], ['-a', 'a', '-a', 'b', 'alice'], ['-h'];
is((deliver(message(), '-d', '-e', '-D', '--', 'alice'))[0], 0, '-d -e -D mean nothing');
is((run_cmd(["$links/deliver", '-C', '/nonexistent', 'alice']))[0], 78, 'no configuration');

# return path
for ([['-f', 'joe@x.org'], 'joe@x.org'], [['-r', '<joe@x.org>'], 'joe@x.org'], [['-f', ''], ''], [['-f', '<>'], ''], [['-r', 'joe'], 'joe@localhost']) {
    deliver(message(), @{ $_->[0] }, 'alice');
    like(last_one($alice, 'INBOX'), qr/^Return-Path: <\Q$_->[1]\E>\r\nReceived: from deliver \(unix\)/, "return path: @{$_->[0]}");
}
deliver(message(), 'alice');
like(last_one($alice, 'INBOX'), qr/^Return-Path: <\w+\@localhost>\r\n/, 'none given: our own name');

# octets
sub body_of { my ($c, $box) = @_; return last_one($c, $box) =~ s/\A.*?\r\n(?=X:)//sr }
for (["X: 1\n\nunix\n", "X: 1\r\n\r\nunix\r\n", 'Unix text'],
     ["X: 2\r\n\r\ncrlf\r\n", "X: 2\r\n\r\ncrlf\r\n", 'CRLF'],
     ["X: 3\n\n.\n..\n.x\n\n.\n", "X: 3\r\n\r\n.\r\n..\r\n.x\r\n\r\n.\r\n", 'dots'],
     ["X: 4\n\nno end", "X: 4\r\n\r\nno end\r\n", 'no line end at the end'],
     ["X: 5\n\na\rb\r\r\nc\r", "X: 5\r\n\r\nab\r\nc\r\n", 'CRs that end no line'],
     ["From joe Mon Jan  1 00:00:00 2024\nX: 6\n\nFrom here\n", "X: 6\r\n\r\nFrom here\r\n", 'an mbox line'],
     ["X: 7\n\n" . "\xe9\x80" x 40000 . "\n", "X: 7\r\n\r\n" . "\xe9\x80" x 40000 . "\r\n", 'long lines of 8-bit octets'],
     ["X: 8\n\n" . join('', map { "line $_\n" } 1 .. 200000), "X: 8\r\n\r\n" . join('', map { "line $_\r\n" } 1 .. 200000), '2 MB']) {
    my ($st, $out, $err) = deliver($_->[0], 'alice');
    my $got = body_of($alice, 'INBOX');
    ok($st eq '0' && $got eq $_->[1], $_->[2]) or note_lines("$st $out $err\n" . substr($got, 0, 300));
}
is((deliver($_, 'alice'))[0], 0, 'hardly a message: ' . s/\n/\\n/gr) for '', 'From', 'From ', 'Fro', ".\n", "\n", "From x\n";

# -l
($st, $out) = deliver("LHLO me\r\nMAIL FROM:<>\r\nRCPT TO:<alice>\r\nDATA\r\nX: 9\r\n\r\nby hand\r\n.\r\nQUIT\r\n", '-l');
like("$st $out", qr/^0 220 .*\r\n250-.*250 2\.1\.0.*354 .*\r\n250 2\.1\.5 Ok SESSIONID=<.*>\r\n221 /s, '-l');
is(body_of($alice, 'INBOX'), "X: 9\r\n\r\nby hand\r\n", 'it is there');
($st, $out) = deliver("LHLO me\r\nMAIL FROM:<>\r\nRCPT TO:<alice>\r\nDATA\r\nX: 10\r\n\r\ncut", '-l');
is("$st " . (body_of($alice, 'INBOX') =~ /X: 10/ ? 'there' : 'not there'), '0 not there', 'cut off: nothing is delivered');

# a server that fails
my $socket = "$cyrd->{dir}/socket/fake";
spew("$cyrd->{dir}/fake.conf", slurp($conf) =~ s/^lmtpsocket:.*/lmtpsocket: $socket/mr, 0644);
sub against {
    my ($script, @args) = @_;
    unlink $socket;
    my $l = IO::Socket::UNIX->new(Local => $socket, Listen => 5) or die "$socket: $!";
    chmod 0777, $socket;
    my $pid = fork // die;
    if ($pid == 0) {
        $SIG{PIPE} = 'IGNORE';
        my $c = $l->accept;
        $script->($c);
        close $c;
        _exit(0);
    }
    close $l;
    my @r = run_cmd(["$links/deliver", '-C', "$cyrd->{dir}/fake.conf", @args], in => message(), err => 1, timeout => 20);
    kill 'KILL', $pid;
    waitpid $pid, 0;
    return "$r[0] $r[1]";
}
# Each of these lines answers the next command; "" hangs up, "." waits for the end of the message.
sub script {
    my @answers = @_;
    return sub {
        my ($c) = @_;
        for my $a (@answers) {
            return if $a eq '';
            if ($a eq '.') { while (defined(my $l = <$c>)) { last if $l eq ".\r\n" } next }
            if ($a eq 'sleep') { sleep 10; next }
            <$c> if $a !~ /^(220|=)/;
            print $c $a =~ s/^=//r, "\r\n";
            $c->flush;
        }
        <$c> for 1;
    };
}
my @open = ('220 hello', "250-me\r\n250 IGNOREQUOTA", '250 ok');
is(against(script(@open, '250 ok', '354 go', '.', '=250 done'), 'a'), '0 ', 'one that does not fail');
is(against(script(@open, '250 ok', '354 go', '.', '=250-long', '=250 done'), 'a'), '0 ', 'a reply of several lines');
is(against(script('421 down'), 'a'), '75 ', 'it is going down');
is(against(script('220 hello', '500 what?'), 'a'), "65 a: Bad protocol\n", 'it knows no LMTP');
is(against(script(@open, '250 ok', '354 go', '.', ''), 'a'), '75 ', 'it hangs up before its answer');
is(against(script(@open, '250 ok', '354 go', ''), 'a'), '75 ', '… in the message');
is(against(script(@open, '250 ok', ''), 'a', 'b'), '75 ', '… between recipients: none has it');
is(against(script(@open, '250 ok', '250 ok', '354 go', '.', '=250 done', ''), 'a', 'b'), '75 ', '… between answers');
is(against(script(@open, '250 ok', '550 5.1.1 no', '354 go', '.', '=550 5.7.1 no'), 'a', 'b'), "65 a: Permission denied\nb: Mailbox does not exist\n", 'each has his own');
is(against(script(@open, '250 ok', '451 4.3.0 later'), 'a'), '75 ', 'no DATA now');
is(against(script(@open, '552 5.2.2 full'), 'a'), "65 a: Over quota\n", 'over quota for good');
is(against(script('220 hello', '250 me', '530 5.7.0 no'), 'a'), "65 a: Bad protocol\n", 'MAIL is refused');
is(against(script('nonsense'), 'a'), '75 ', 'nonsense');
is(against(sub { my ($c) = @_; print $c 'x' x 200000; sleep 5 }, 'a'), '75 ', 'a line without end');
is(against(script(@open, 'sleep'), 'a'), '75 ', 'it does not answer: lmtptxn_timeout');
is((run_cmd(["$links/deliver", '-C', "$cyrd->{dir}/fake.conf", 'alice']))[0], 75, 'nobody listens') if unlink $socket;
like((run_cmd(["$links/deliver", '-C', "$cyrd->{dir}/fake.conf", '-l']))[1], qr/^421 4\.3\.0 /m, 'and the client of -l is told');

# the daemon is down
$cyrd->ends_well;
($st, $out, $err) = deliver(message(), 'alice');
like("$st $out$err", qr/^75 421 4\.3\.0 deliver: couldn't connect to lmtpd\ncouldn't connect to lmtpd: /, 'the daemon is down: come again');
done();
