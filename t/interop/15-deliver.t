#!/usr/bin/perl
# Postfix, with deliver as the program of a transport, and by LMTP: what it makes of each exit status, and that the same mail comes once.
use strict;
use warnings;
use File::Copy qw(copy);
use FindBin;
use lib $FindBin::Bin;
use Interop;
use Postfix;

skip_all('Postfix needs root: run this as root (CI does)') if $> != 0;
die "Postfix is missing: etc/install-deps --test\n" unless which('postfix');

my $bin = ($ENV{TMPDIR} || '/tmp') . "/cyrd-names-$$";
my $me = $$;
mkdir $bin, 0755 or die "$bin: $!";
END { if ($$ == $me) { unlink "$bin/deliver"; rmdir $bin } }
copy("$Interop::build/cyrd", "$bin/deliver") && chmod(0755, "$bin/deliver") or die "$bin/deliver: $!";    # its user may not see the clone

my $cyrd = Interop->new;
spew("$cyrd->{dir}/imapd.conf", slurp("$cyrd->{dir}/imapd.conf") =~ s/^autocreate_post: yes/autocreate_post: no\nlmtpsocket: $cyrd->{lmtp_socket}/mr);
$cyrd->start;
my $postfix = Postfix->new(transports => { deliver => ['example.test', 'deliver:'], lmtp => ['lmtp.test', "lmtp:unix:$cyrd->{lmtp_socket}"] },
    master => "deliver unix - n n - - pipe flags=R user=$cyrd->{user} argv=$bin/deliver -C $cyrd->{dir}/imapd.conf -f \${sender} -- \${user}\n")->start;
my $n = 0;
sub body { $n++; return "Message-ID: <$n\@interop>\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\nFrom: a\@example.org\r\nSubject: $n\r\n\r\n.dot\r\nbody $n\r\n" }
sub mail { my ($to, $m) = @_; my $r = $postfix->smtp('sender@example.org', [ref $to ? @$to : $to], $m // body()); die "Postfix refuses: $r" if $r !~ /^250/ }
sub logged { my ($re, $name) = @_; return ok(wait_for(sub { $postfix->log =~ $re }, 40), $name) || (note_lines(substr $postfix->log, -2000), 0)[1] }
sub empty { return wait_for(sub { $postfix->queued == 0 }, 60) }
sub count { my ($user) = @_; my $c = $cyrd->client($user); my $k = $c->select('INBOX'); $c->logout; return $k }
$cyrd->client($_)->logout for qw(alice bob);

# 0
mail('alice@example.test');
logged(qr/to=<alice\@example\.test>.*relay=deliver.*status=sent/, '0: sent');
my $c = $cyrd->client('alice');
is($c->select('INBOX'), 1, 'it is there');
ok($c->fetch->{1}{body} =~ /\AReturn-Path: <sender\@example\.org>\r\nReceived: from deliver .*\r\n\r\n\.dot\r\nbody 1\r\n\z/s, 'with its return path, and as it was');
$c->logout;

# 65
mail('nobody@example.test');
logged(qr/to=<nobody\@example\.test>.*status=bounced .*nobody: Mailbox does not exist/, '65: bounced, with the reason');

# 75: over quota, until there is room
my $admin = $cyrd->client('admin');
$admin->do('SETQUOTA user/bob (MESSAGE 0)');
mail('bob@example.test');
logged(qr/to=<bob\@example\.test>.*status=deferred/, '75: deferred');
$admin->do('SETQUOTA user/bob (MESSAGE 10)');
ok(empty(), 'when there is room it is delivered');
is(count('bob'), 1, 'once');

# two recipients, one over quota: when deliver comes again for both, the first one's is dropped
$admin->do('SETQUOTA user/bob (MESSAGE 1)');
mail(['alice@example.test', 'bob@example.test']);
logged(qr/to=<bob\@example\.test>.*status=deferred.*\n(?s:.*)to=<bob\@example\.test>.*status=deferred/, 'one of two is over quota');
is(count('alice'), 2, 'the other one has it');
$admin->do('SETQUOTA user/bob (MESSAGE 10)');
$admin->logout;
ok(empty(), 'the queue runs empty');
is(count('alice') . count('bob'), '22', 'each has it once');

# the same message again, by either way, from a list that both are on
my $same = body();
mail('alice@example.test', $same);
ok(empty(), 'a message by deliver');
mail('alice@lmtp.test', $same);
mail(['alice@lmtp.test', 'bob@lmtp.test'], $same);
ok(empty(), 'and twice by LMTP');
is(count('alice') . count('bob'), '33', 'each has it once');
my @suppressed = $cyrd->log =~ /lmtp\.duplicate .*msgid=<$n\@interop>/g;
is(scalar @suppressed, 2, 'what was dropped is logged');

# the daemon is down
$cyrd->stop;
mail('alice@example.test');
logged(qr/to=<alice\@example\.test>.*status=deferred .*couldn't connect to lmtpd/, 'the daemon is down: deferred, not bounced');
$cyrd->start;
ok(empty(), 'when it is back it is delivered');
is(count('alice'), 4, 'it is there');
my @bounced = grep { /to=<[^>]*\.test>.*status=bounced/ } split /\n/, $postfix->log;
is(scalar @bounced, 1, 'one bounce in all') or note_lines(join "\n", @bounced);
$postfix->stop;
$cyrd->ends_well;
done;
