#!/usr/bin/perl
# POP3 clients: curl (pop3:// with STLS, pop3s://), Cyrus's pop3test with its mechanisms, Python's poplib; mpop or fetchmail where installed.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Interop;
use Messages;

die "curl is missing: etc/install-deps --test\n" unless which('curl');
my ($pop3, $pop3s) = (free_port(), free_port());
# Without UTF8=ACCEPT messages with 8-bit headers may be appended as they are (RFC 6855 4).
my $cyrd = Interop->new(imap => "suppress_capabilities: UTF8=ACCEPT\n", services => "  pop3 cmd=\"pop3d\" listen=\"127.0.0.1:$pop3\"\n  pop3s cmd=\"pop3d -s\" listen=\"127.0.0.1:$pop3s\"\n")->start;
my @curl = ('curl', '-sS', '-m', 30, '--cacert', $cyrd->{ca}, '-u', "alice:$Interop::password");
sub curl { my @r = run_cmd([@curl, @_], err => 1); return @r }
my ($st, $out, $err);

my @n = (full ? 0 .. 39 : grep { $_ % 3 == 0 } 0 .. 39);
my %m;
for my $n (@n) {
    my (undef, $octets) = message($n);
    $m{$n} = $octets;
    my $file = spew("$cyrd->{dir}/m", $octets);
    ($st, $out, $err) = curl('-T', $file, "imaps://localhost:$cyrd->{imaps}/INBOX");
    ok($st eq '0', "APPEND of message $n") or note_lines($err);
}

# -- curl
($st, $out, $err) = curl("pop3s://localhost:$pop3s/");
ok($st eq '0' && (() = $out =~ /^\d+ \d+\r$/mg) == @n, 'pop3s://: LIST') or note_lines($out . $err);
($st, $out, $err) = curl('--ssl-reqd', "pop3://localhost:$pop3/");
ok($st eq '0' && $out =~ /^1 \d+\r$/m, 'pop3:// with STLS') or note_lines($err);
($st) = curl("pop3://localhost:$pop3/");
ok($st ne '0', 'without TLS a password is not taken');
($st) = run_cmd(['curl', '-sS', '-m', 30, '--cacert', $cyrd->{ca}, '-u', 'alice:wrong', "pop3s://localhost:$pop3s/"], err => 1);
is($st, '67', 'a wrong password is denied');
my @differ;
for my $i (0 .. $#n) {
    ($st, $out, $err) = curl("pop3s://localhost:$pop3s/" . ($i + 1));
    my $want = $m{ $n[$i] };
    $want .= "\r\n" if $want !~ /\r\n\z/;
    push @differ, "$n[$i]: $st " . first_difference($want, $out) if $out ne $want;
}
ok(!@differ, 'each message comes octet for octet, its dots undone') or note_lines(join "\n", @differ);
($st, $out) = curl('-X', 'UIDL', "pop3s://localhost:$pop3s/");
ok($out =~ /^1 \d+\.1\r$/m, 'UIDL') or note_lines($out);

# -- pop3test
my $pop3test = which('pop3test') || (grep { -x } '/usr/lib/cyrus/bin/pop3test')[0];
if ($pop3test) {
    for my $mech (qw(SCRAM-SHA-256 PLAIN LOGIN)) {
        ($st, $out) = run_cmd([$pop3test, '-p', $pop3, '-t', '', '-m', $mech, '-u', 'alice', '-a', 'alice', '-w', $Interop::password, 'localhost'], in => "STAT\r\nQUIT\r\n", timeout => 30);
        ok($out =~ /^Authenticated\./m && $out =~ /^\+OK @{[scalar @n]} \d+/m, "pop3test: STLS with $mech") or note_lines($out);
    }
    ($st, $out) = run_cmd([$pop3test, '-p', $pop3, '-m', 'SCRAM-SHA-256', '-u', 'alice', '-a', 'alice', '-w', $Interop::password, 'localhost'], in => "STAT\r\nQUIT\r\n", timeout => 30);
    ok($out =~ /^Authenticated\./m && $out =~ /^\+OK \d+ \d+/m, 'pop3test: SCRAM-SHA-256 without TLS') or note_lines($out);
    ($st, $out) = run_cmd([$pop3test, '-p', $pop3s, '-s', '-m', 'user', '-u', 'alice', '-a', 'alice', '-w', $Interop::password, 'localhost'], in => "STAT\r\nQUIT\r\n", timeout => 30);
    ok($out =~ /^\+OK \d+ \d+/m, 'pop3test: USER and PASS over TLS') or note_lines($out);
} else { skip('pop3test', 'not installed') }

# -- poplib
my $py = spew("$cyrd->{dir}/pop.py", <<"P");
import poplib, ssl, sys
c = ssl.create_default_context(cafile='$cyrd->{ca}')
p = poplib.POP3('localhost', $pop3)
p.stls(c)
assert 'TOP' in p.capa() and 'UIDL' in p.capa()
p.user('alice'); p.pass_('$Interop::password')
n, octets = p.stat()
assert n == @{[scalar @n]} and len(p.list()[1]) == n and len(p.uidl()[1]) == n
assert any(l.startswith(b'Subject:') for l in p.top(1, 0)[1])
p.dele(1); p.rset(); p.dele(2); p.quit()
p = poplib.POP3_SSL('localhost', $pop3s, context=c)
p.user('alice'); p.pass_('$Interop::password')
assert p.stat()[0] == n - 1
q = poplib.POP3_SSL('localhost', $pop3s, context=c)
q.user('alice')
try:
    q.pass_('$Interop::password'); sys.exit('two readers')
except poplib.error_proto as e:
    assert b'[IN-USE]' in e.args[0]
p.quit()
P
($st, $out, $err) = run_cmd(['python3', $py], err => 1, timeout => 60);
is($st, '0', "poplib: CAPA, STLS, STAT, LIST, UIDL, TOP, DELE, RSET, one reader at a time") or note_lines($out . $err);

# -- whoever else is there
if (which('mpop')) {
    my $rc = spew("$cyrd->{dir}/mpoprc", "account default\nhost localhost\nport $pop3s\nuser alice\npassword $Interop::password\ntls on\ntls_starttls off\ntls_trust_file $cyrd->{ca}\nkeep off\ndelivery mbox $cyrd->{dir}/mbox\nuidls_file $cyrd->{dir}/uidls\nauth user\n");
    chmod 0600, $rc;
    ($st, $out, $err) = run_cmd(['mpop', '-C', $rc], err => 1, timeout => 60);
    is($st, '0', 'mpop fetches all and deletes') or note_lines($out . $err);
    ($st, $out) = curl("pop3s://localhost:$pop3s/");
    ok($out !~ /^\d+ \d+/m, '... nothing is left');
} else { skip('mpop', 'not installed') }
$cyrd->ends_well;
done;
