#!/usr/bin/perl
# LMTP clients that people have at hand: swaks, curl, a shell with /dev/tcp as the README shows it.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Interop;

die "swaks is missing: etc/install-deps --test\n" unless which('swaks');
my $auth_port = free_port();
my $cyrd = Interop->new(imap => "lmtpauth_admins: postman\n", users => [qw(admin alice bob postman)], services => "  lmtpauth cmd=\"lmtpd\" listen=\"127.0.0.1:$auth_port\"\n")->start;
my ($st, $out);
my @swaks = ('swaks', '--protocol', 'LMTP', '--from', 'x@example.org', '--suppress-data');
($st, $out) = run_cmd([@swaks, '--server', '127.0.0.1', '--port', $cyrd->{lmtp}, '--to', 'alice,bob', '--header', 'Subject: by swaks', '--body', "one\n.\ntwo\n"]);
ok($st eq '0' && $out =~ /<~  250|<-  250/, 'swaks over TCP to two recipients') or note_lines($out);
($st, $out) = run_cmd([@swaks, '--socket', $cyrd->{lmtp_socket}, '--to', 'alice']);
is($st, '0', 'swaks over the Unix socket') or note_lines($out);
($st, $out) = run_cmd([@swaks, '--server', '127.0.0.1', '--port', $auth_port, '--tls', '--to', 'alice', '--auth', 'PLAIN', '--auth-user', 'postman', '--auth-password', $Interop::password]);
is($st, '0', 'swaks with STARTTLS and AUTH') or note_lines($out);
($st, $out) = run_cmd([@swaks, '--server', '127.0.0.1', '--port', $auth_port, '--to', 'alice']);
ok($st ne '0', 'without AUTH nothing is delivered there');
($st, $out) = run_cmd([@swaks, '--server', '127.0.0.1', '--port', $cyrd->{lmtp}, '--to', 'alice,no%such,bob']);
ok($out =~ /^<\*\* 5/m && $out =~ /^<-  250/m, 'a bad recipient among good ones: each has an answer') or note_lines($out);
($st, $out) = run_cmd(['bash', '-c', "exec 3<>/dev/tcp/127.0.0.1/$cyrd->{lmtp}; printf '%s\\r\\n' 'LHLO me' 'MAIL FROM:<>' 'RCPT TO:<alice>' DATA 'Subject: hello' '' world . QUIT >&3; cat <&3"], timeout => 10);
ok($out =~ /^221/m && $out =~ /^250 2\.1\.5/m, 'a shell, everything sent at once') or note_lines($out);
my $c = $cyrd->client('alice');
is($c->select('INBOX'), 5, 'alice has five');
my $m = $c->fetch;
ok($m->{1}{body} =~ /\AReturn-Path: <x\@example\.org>\r\nReceived: from /, 'Return-Path and Received stand above');
ok($m->{1}{body} =~ /\r\n\r\none\r\n\.\r\ntwo\r\n/, 'a lone dot came through');
ok($m->{5}{body} =~ /\AReturn-Path: <>\r\n/ && $m->{5}{body} =~ /\r\nSubject: hello\r\n\r\nworld\r\n\z/, 'the empty sender');
$c->logout;
$c = $cyrd->client('bob');
is($c->select('INBOX'), 2, 'bob has two');
$c->logout;
$cyrd->ends_well;
done;
