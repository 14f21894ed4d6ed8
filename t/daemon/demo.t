#!/usr/bin/perl
# cyrd --demo, what make run starts: filled once, passwords kept, ports moved, a place that the daemon's user cannot reach.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Daemon;
use Cwd qw(abs_path);
use File::Path qw(remove_tree);
use File::Temp qw(tempdir);
use Test::More;

my $parent = tempdir('cyrddemoXXXXXX', DIR => $ENV{TMPDIR} || '/tmp', CLEANUP => 1);      # 0700
my $base = 21000 + 7 * ($$ % 100);
my $d = bless { dir => $parent }, 'Daemon';
my @more;
{
    no warnings 'redefine';
    *Daemon::command = sub { return ("$Daemon::build/cyrd", '--demo', "$parent/run", '--portbase', $base, @more) };
}
END { my $q = $?; remove_tree(abs_path("$parent/run")) if $parent && -l "$parent/run"; $? = $q }
ok($d->start, 'starts from nothing') or do { diag $d->slurp('log'); done_testing; exit 1 };
ok($d->wait_log(qr/Control-C/), '... and says how to connect');
my ($accounts) = $d->slurp('log') =~ /Accounts: (.*)/;
like($accounts, qr{^admin/\w{12} alice/\w{12} bob/\w{12}$}, '... with passwords');
ok(Daemon::tcp($base + $_), 'port ' . ($base + $_)) for 143, 993, 24;
ok(!grep(/21000|0\.0\.0\.0/, `ss -ltnp 2>/dev/null | grep pid=$d->{pid}, | awk '{print \$4}' | grep -v 127.0.0.1`), 'loopback only');
is((stat "$parent/run/passwords")[2] & 0777, 0600, 'the passwords are for one user only');
like(`LC_ALL=C openssl x509 -noout -ext subjectAltName -in $parent/run/tls/cert.pem 2>&1`, qr/localhost/, 'a certificate') if -s "$parent/run/tls/cert.pem";
SKIP: {
    skip 'not root', 3 if $> != 0;
    ok(-l "$parent/run", 'as root, in a place that the user cannot reach: run is a link');
    my $real = abs_path("$parent/run");
    like($real, qr{^/var/lib/cyrd-demo-}, '... to a place of its own');
    isnt((stat "/proc/$d->{pid}")[4], 0, '... and root was given up');
}
# -- what it tells people to try
my ($password) = $accounts =~ m{alice/(\w+)};
my $lmtp = Daemon::tcp($base + 24);
print $lmtp "$_\r\n" for 'LHLO me', 'MAIL FROM:<>', 'RCPT TO:<alice>', 'DATA', 'Subject: hello', '', 'world', '.', 'QUIT';
like(do { local $/; <$lmtp> }, qr/^354 .*^250 2\.1\.5 .*^221 /ms, 'a message is taken by LMTP');
SKIP: {
    skip 'no curl', 2 if system('curl --version >/dev/null 2>&1');
    like(`curl -sk -u alice:$password imaps://127.0.0.1:@{[$base + 993]}/INBOX -X 'STATUS INBOX (MESSAGES)' 2>&1`, qr/MESSAGES 1\b/,
        '... and is there by IMAPS');
    like(`curl -sk --ssl-reqd -u alice:$password 'imap://127.0.0.1:@{[$base + 143]}/INBOX;UID=1' 2>&1`, qr/\r\nworld\r\n/,
        '... and by STARTTLS');
}
my $second = fork // die;
if ($second == 0) { open STDOUT, '>', "$parent/second"; open STDERR, '>&', \*STDOUT; exec $d->command }
waitpid $second, 0;
is($? >> 8, 1, 'a second one exits with 1');
like($d->slurp('second'), qr/service imap: cannot bind 127\.0\.0\.1:@{[$base + 143]}: Address already in use/, '... naming the port');
$d->stop;
ok($d->start, 'starts again');
$d->wait_log(qr/Control-C/);
is($d->slurp('log') =~ /Accounts: (.*)/ && $1, $accounts, '... with the same passwords');
is($d->stop('INT') < 10, 1, 'Control-C ends it');
done_testing;
