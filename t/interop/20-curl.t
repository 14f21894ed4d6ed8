#!/usr/bin/perl
# curl: imap:// with STARTTLS and imaps://, its SASL mechanisms, LIST, SELECT, FETCH of parts and sections, SEARCH, STORE, APPEND, EXPUNGE.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Interop;
use Messages;

die "curl is missing: etc/install-deps --test\n" unless which('curl');
my $cyrd = Interop->new->start;
my @curl = ('curl', '-sS', '-m', 30, '--cacert', $cyrd->{ca}, '-u', "alice:$Interop::password");
my $imaps = "imaps://localhost:$cyrd->{imaps}";
sub curl { my @r = run_cmd([@curl, @_], err => 1); return @r }

is((curl("$imaps/"))[0], '0', 'imaps:// logs in');
my ($st, $out, $err) = curl("$imaps/");
ok($out =~ m{^\* LIST \([^)]*\) "/" "?INBOX"?\r$}m && $out =~ m{^\* LIST \([^)]*\\Sent[^)]*\) "/" "?Sent"?\r$}m, 'LIST shows INBOX and Sent, which were made at login') or note_lines($out . $err);
($st, $out) = curl('--ssl-reqd', "imap://localhost:$cyrd->{imap}/");
ok($st eq '0' && $out =~ /INBOX/, 'imap:// with STARTTLS');
# Without TLS LOGINDISABLED is told, and curl does not send the password.
($st, $out, $err) = curl("imap://localhost:$cyrd->{imap}/", '--login-options', 'AUTH=PLAIN');
ok($st ne '0', 'without TLS a password is not taken');
for my $mech (qw(PLAIN LOGIN SCRAM-SHA-1 SCRAM-SHA-256)) {
    ($st, $out, $err) = curl('--login-options', "AUTH=$mech", "$imaps/");
    if ($mech =~ /SCRAM/ && (run_cmd(['curl', '-V']))[1] !~ /gsasl/i) { skip("AUTH=$mech", 'this curl is built without SCRAM (imtest tests it)'); next }
    is($st, '0', "AUTH=$mech") or note_lines($err);
}
($st, $out, $err) = run_cmd(['curl', '-sS', '-m', 30, '--cacert', $cyrd->{ca}, '-u', 'alice:wrong', "$imaps/"], err => 1);
is($st, '67', 'a wrong password is denied (curl: login denied)');
($st) = run_cmd(['curl', '-sS', '-m', 30, '-u', "alice:$Interop::password", "$imaps/"], err => 1);
is($st, '60', 'a certificate from an unknown authority is refused by curl');

# APPEND and FETCH: each message comes back as it was.
my @n = (full ? 0 .. 39 : grep { $_ % 3 == 0 } 0 .. 39);
my %m;
for my $n (@n) {
    my (undef, $octets) = message($n);
    $m{$n} = $octets;
    my $file = spew("$cyrd->{dir}/m", $octets);
    ($st, $out, $err) = curl('-T', $file, "$imaps/INBOX");
    ok($st eq '0', "APPEND of message $n") or note_lines($err);
}
my @differ;
for my $i (0 .. $#n) {
    ($st, $out, $err) = curl("$imaps/INBOX;UID=" . ($i + 1));
    push @differ, "$n[$i]: $st " . first_difference($m{ $n[$i] }, $out) if $out ne $m{ $n[$i] };
}
ok(!@differ, 'each comes back octet for octet') or note_lines(join "\n", @differ);
($st, $out) = curl("$imaps/INBOX;MAILINDEX=1;SECTION=HEADER.FIELDS%20(SUBJECT)");
is($out, "Subject: $n[0]: plain\r\n\r\n", 'MAILINDEX and a header subset');
($st, $out) = curl("$imaps/INBOX;UID=1;SECTION=TEXT");
is($out, $m{ $n[0] } =~ s/.*?\r\n\r\n//sr, 'SECTION=TEXT');
($st, $out) = curl("$imaps/INBOX;UIDVALIDITY=12345;UID=1");
is($st, '78', 'another UIDVALIDITY is noticed');

($st, $out) = curl("$imaps/INBOX?SUBJECT%20plain");
ok($out =~ /^\* SEARCH 1\r$/m, 'SEARCH from the URL') or note_lines($out);
($st, $out) = curl("$imaps/INBOX", '-X', 'SEARCH HEADER Message-ID interop-3');
ok($out =~ /^\* SEARCH \d/m, 'SEARCH as a command') or note_lines($out);
($st, $out) = curl("$imaps/INBOX", '-X', 'STORE 1 +FLAGS (\Deleted \Flagged)');
ok($out =~ /^\* 1 FETCH \(FLAGS \([^)]*\\Deleted/m, 'STORE') or note_lines($out);
($st, $out) = curl("$imaps/INBOX", '-X', 'EXPUNGE');
ok($out =~ /^\* 1 EXPUNGE\r$/m, 'EXPUNGE') or note_lines($out);
($st, $out) = curl("$imaps", '-X', 'STATUS INBOX (MESSAGES UIDNEXT)');
ok($out =~ /^\* STATUS "?INBOX"? \(MESSAGES @{[ @n - 1 ]} UIDNEXT @{[ @n + 1 ]}\)\r$/m, 'STATUS') or note_lines($out);
($st, $out, $err) = curl("$imaps/no-such-mailbox;UID=1");
ok($st ne '0', 'an unknown mailbox is an error');
for my $x ('CREATE Reports', 'SUBSCRIBE Reports', 'RENAME Reports Results', 'UNSUBSCRIBE Reports', 'DELETE Results', 'NOOP', 'CAPABILITY', 'NAMESPACE', 'LSUB "" *', 'EXAMINE INBOX') {
    ($st, $out, $err) = curl("$imaps", '-X', $x);
    ok($st eq '0', $x) or note_lines($err);
}
$cyrd->ends_well;
done;
