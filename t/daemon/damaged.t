#!/usr/bin/perl
# A message whose octets the disk has damaged, as an administrator meets it: reconstruct and check name it, and it can be got rid of.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Daemon;
use Test::More;

my $imap = Daemon::port();
my $d = Daemon->new(imap => "allowplaintext: yes\nsasl_pwcheck_method: alwaystrue\nautocreate_quota: 0\nexpunge_mode: immediate\n",
    master => "SERVICES {\n imap cmd=\"imapd -N\" listen=\"127.0.0.1:$imap\"\n}\n");
my $dir = $d->{dir};

sub answer { my ($s) = @_; local $_; my $all = ''; while (<$s>) { $all .= $_; last if /^t / } return $all }
sub ask { my ($s, $command) = @_; print $s "t $command\r\n"; return answer($s) }
sub login { my $s = Daemon::tcp($imap) or die; <$s>; ask($s, 'LOGIN alice x') =~ /^t OK/m or die; return $s }
sub tool { my ($name, @args) = @_; my $out = `$Daemon::build/$name -C $dir/imapd.conf @args 2>&1`; return ($? >> 8, $out) }
symlink 'cyrctl', "$dir/reconstruct";

ok($d->start, 'starts') or BAIL_OUT($d->slurp('log'));
my $s = login();
for my $n (1 .. 3) {
    my $message = "Subject: message $n\r\n\r\n" . "text of number $n\r\n" x 20;
    like(ask($s, sprintf "APPEND INBOX {%d+}\r\n%s", length $message, $message), qr/^t OK/m, "message $n");
}
my ($status, $out) = tool('cyrctl', 'reconstruct', 'user/alice');
is($status, 0, 'reconstruct of a sound mailbox') or diag($out);
$d->stop;
my ($log) = grep { `grep -c 'text of number 2' $_` > 0 } glob "$dir/spool/?/?/*/log.*";
my $octets = do { open my $f, '<', $log or die; local $/; <$f> };
open my $f, '+<', $log or die;
seek $f, index($octets, 'text of number 2') + 5, 0;
print $f 'X';
close $f;

ok($d->start, 'starts with a damaged message');
$s = login();
like(ask($s, 'SELECT INBOX'), qr/^\* 3 EXISTS.*^t OK/ms, 'the mailbox can be used');
like(ask($s, 'FETCH 2 BODY.PEEK[]'), qr/^t NO .*damaged/m, 'FETCH says that it is damaged');
$d->stop;
ok($d->start, 'and once more');
$s = login();
ask($s, 'SELECT INBOX');
my $all = ask($s, 'FETCH 1:3 (BODY.PEEK[])');               # which are read in one go
like($all, qr/^\* 1 FETCH.*number 1.*^\* 3 FETCH.*number 3.*^t NO .*damaged/ms, 'FETCH of all has the others');
unlike($all, qr/^\* 2 FETCH|number X/m, '… and not one octet of the damaged one');
for (['cyrctl', 'check', 'user/alice'], ['cyrctl', 'reconstruct', 'user/alice'], ['cyrctl', 'reconstruct', 'user/alice']) {
    ($status, $out) = tool(@$_);
    is($status, 1, "@$_: exit status 1");
    like($out, qr/user\/alice\b.*\b2\b/, '… and names the message') or diag($out);
}
like($out, qr/EXPUNGE/, '… and tells what to do');
like(ask($s, 'UID STORE 2 +FLAGS (\Deleted)'), qr/^t OK/m, 'it can be flagged');
like(ask($s, 'UID EXPUNGE 2'), qr/^\* 2 EXPUNGE.*^t OK/ms, '… and expunged');
($status, $out) = tool('cyrctl', 'reconstruct', 'user/alice');
is($status, 0, 'then the mailbox is sound') or diag($out);
like(ask($s, 'FETCH 1:* (BODY.PEEK[TEXT])'), qr/number 1.*number 3.*^t OK/ms, 'and has the others');
$d->stop;
done_testing();
