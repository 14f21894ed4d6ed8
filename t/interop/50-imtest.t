#!/usr/bin/perl
# Cyrus's own test clients: imtest with every mechanism, in clear, with STARTTLS and over IMAPS, with a security layer, as another user;
# lmtptest over the Unix socket and TCP, with and without AUTH.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Interop;

my ($imtest, $lmtptest) = (which('imtest'), which('lmtptest'));
die "imtest and lmtptest are missing: etc/install-deps --test\n" unless $imtest && $lmtptest;
my $auth_port = free_port();
my $cyrd = Interop->new(imap => "proxyservers: postman\nlmtpauth_admins: postman\n", users => [qw(admin alice bob postman)],
    services => "  lmtpauth cmd=\"lmtpd\" listen=\"127.0.0.1:$auth_port\"\n")->start;
sub imtest {
    my ($args, @commands) = @_;
    my $n = 0;
    return run_cmd([$imtest, @$args, '-w', $Interop::password, 'localhost'], in => join('', map { 'x' . ++$n . " $_\r\n" } @commands, 'LOGOUT'), timeout => 30);
}
my @alice = qw(-u alice -a alice);
my ($st, $out);
for my $mech (qw(SCRAM-SHA-256 SCRAM-SHA-1 PLAIN LOGIN)) {
    ($st, $out) = imtest(['-p', $cyrd->{imap}, '-t', '', '-m', $mech, @alice], 'SELECT INBOX', 'NOOP');
    ok($out =~ /^S: S01 OK/m && $out =~ /^TLS connection established/m && $out =~ /^Authenticated\./m, "STARTTLS with $mech") or note_lines($out);
    ok($out =~ /^x1 OK \[READ-WRITE\]/m && $out =~ /^x2 OK/m && $out =~ /^\* BYE/m, 'and the session works');
    ($st, $out) = imtest(['-p', $cyrd->{imaps}, '-s', '-m', $mech, @alice], 'NOOP');
    ok($out =~ /^Authenticated\./m && $out =~ /^x1 OK/m, "IMAPS with $mech") or note_lines($out);
}
# SCRAM needs no TLS: the password does not travel.
($st, $out) = imtest(['-p', $cyrd->{imap}, '-m', 'SCRAM-SHA-256', @alice], 'NOOP');
ok($out =~ /^Authenticated\./m && $out =~ /^x1 OK/m, 'SCRAM-SHA-256 without TLS') or note_lines($out);
ok($out =~ /^S: \* OK .*LOGINDISABLED/m || $out =~ /^S: \* CAPABILITY .*LOGINDISABLED/m, 'where LOGIN is disabled');
ok($out !~ /AUTH=PLAIN/, 'and PLAIN is not offered');
($st, $out) = imtest(['-p', $cyrd->{imap}, '-m', 'PLAIN', @alice], 'NOOP');
ok($out !~ /^Authenticated\./m, 'PLAIN without TLS is refused');
($st, $out) = run_cmd([$imtest, '-p', $cyrd->{imap}, '-t', '', '-m', 'SCRAM-SHA-256', @alice, '-w', 'wrong', 'localhost'], in => "x LOGOUT\r\n", timeout => 40);
ok($out =~ /^Authentication failed/m, 'a wrong password fails') or note_lines($out);
# Authorization as another user: an administrator may, a proxy server may, others may not.
($st, $out) = imtest(['-p', $cyrd->{imap}, '-t', '', '-m', 'PLAIN', '-u', 'alice', '-a', 'admin'], 'GETACL INBOX');
ok($out =~ /^Authenticated\./m && $out =~ /^\* ACL INBOX .*alice/m, 'the administrator acts as alice') or note_lines($out);
($st, $out) = imtest(['-p', $cyrd->{imap}, '-t', '', '-m', 'SCRAM-SHA-256', '-u', 'alice', '-a', 'postman'], 'GETACL INBOX');
ok($out =~ /^Authenticated\./m && $out =~ /^\* ACL INBOX .*alice/m, 'a proxy server acts as alice') or note_lines($out);
($st, $out) = imtest(['-p', $cyrd->{imap}, '-t', '', '-m', 'PLAIN', '-u', 'alice', '-a', 'bob'], 'NOOP');
ok($out !~ /^Authenticated\./m, 'bob may not act as alice');

# LMTP.
my $message = "Subject: by lmtptest\r\nFrom: x\@example.org\r\n\r\nhello\r\n..dot\r\n.\r\n";
my $talk = "MAIL FROM:<x\@example.org>\r\nRCPT TO:<bob>\r\nRCPT TO:<alice+Archive>\r\nDATA\r\n${message}QUIT\r\n";
($st, $out) = run_cmd([$lmtptest, '-p', $cyrd->{lmtp}, '-a', 'postman', '-u', 'postman', '-w', $Interop::password, '-m', 'PLAIN', 'localhost'], in => $talk, timeout => 30);
my $accepted = () = $out =~ /^250 2\.1\.5 /mg;
ok($accepted >= 4, 'lmtptest delivers over TCP to two') or note_lines($out);
($st, $out) = run_cmd([$lmtptest, '-t', '', '-m', 'SCRAM-SHA-256', '-p', $auth_port, '-a', 'postman', '-u', 'postman', '-w', $Interop::password, 'localhost'], in => $talk, timeout => 30);
$accepted = () = $out =~ /^250 2\.1\.5 /mg;
ok($out =~ /^Authenticated\./m && $accepted >= 4, 'with STARTTLS and AUTH SCRAM-SHA-256') or note_lines($out);
($st, $out) = run_cmd([$lmtptest, '-t', '', '-m', 'PLAIN', '-p', $auth_port, '-a', 'alice', '-u', 'alice', '-w', $Interop::password, 'localhost'], in => $talk, timeout => 30);
ok($out !~ /^250 2\.1\.5 /m, 'but alice, who is no postman, delivers nothing') or note_lines($out);
# A message with an id comes once.
(my $again = $talk) =~ s/^DATA\r\n/DATA\r\nMessage-ID: <twice\@lmtptest>\r\n/m;
for my $time ('the first', 'the second') {
    ($st, $out) = run_cmd([$lmtptest, '-p', $cyrd->{lmtp}, '-a', 'postman', '-u', 'postman', 'localhost'], in => $again, timeout => 30);
    $accepted = () = $out =~ /^250 2\.1\.5 /mg;
    ok($accepted >= 4, "lmtptest sends the same, $time time") or note_lines($out);
}
my $c = $cyrd->client('bob');
is($c->select('INBOX'), 3, 'bob has the first two, and the third once');
my ($first) = values %{ $c->fetch('1') };
ok($first->{body} =~ /\r\nhello\r\n\.dot\r\n\z/, 'with the dots as they were written');
$c->logout;
$cyrd->ends_well;
done;
