#!/usr/bin/perl
# The same messages from many clients at once, to the same mailboxes in any order: each mailbox gets each of them once, every client is
# answered, and nobody waits for somebody who waits for him. Then again after a restart, by which the marks come from the disk.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../interop";
use Interop;
use IO::Socket::INET;
use List::Util qw(shuffle);
use POSIX qw(_exit);

my @users = qw(alice bob carla dora);
my ($clients, $messages) = (12, 25);
my $cyrd = Interop->new(users => ['admin', @users]);
$cyrd->start;
$cyrd->client($_)->logout for @users;

# One client: every message to all users, in an order of its own. Its exit status is how many answers were not 250.
sub deliver_all {
    my ($seed, $from) = @_;
    srand $seed;
    my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $cyrd->{lmtp}, Timeout => 20) or return 100;
    my $bad = 0;
    my $reply = sub { my $l; do { $l = <$s>; return $bad++ if !defined $l } while $l =~ /^\d{3}-/; $bad++ if $l !~ /^[23]/; return };
    $reply->();
    print $s "LHLO x\r\n";
    $reply->();
    for my $n (shuffle $from .. $from + $messages - 1) {
        my @to = shuffle @users;
        print $s "MAIL FROM:<>\r\n", map("RCPT TO:<$_>\r\n", @to), "DATA\r\n";
        $reply->() for 0 .. @to + 1;
        print $s "Message-ID: <$n\@many>\r\nSubject: $n\r\n\r\n", 'x' x ($n % 3 == 0 ? 70000 : 10), "\r\n.\r\n";
        $reply->() for @to;
    }
    print $s "QUIT\r\n";
    $reply->();
    return $bad > 100 ? 100 : $bad;
}

sub all_at_once {
    my ($from) = @_;
    my @pids = map { my $seed = $_; my $pid = fork // die; _exit(deliver_all($seed, $from)) if !$pid; $pid } 1 .. $clients;
    my $bad = 0;
    for (@pids) { waitpid $_, 0; $bad += $? >> 8 || $? & 127 }
    return $bad;
}

sub subjects {
    my ($user) = @_;
    my $c = $cyrd->client($user);
    $c->select('INBOX');
    my @s = map { /Subject: (\d+)/ ? $1 : () } $c->do('FETCH 1:* BODY.PEEK[HEADER.FIELDS (SUBJECT)]');
    $c->logout;
    return join ' ', sort { $a <=> $b } @s;
}

local $SIG{ALRM} = sub { print "Bail out! somebody waits for ever\n"; exit 1 };
alarm 250;
is(all_at_once(1), 0, "$clients clients with the same $messages messages to four mailboxes: all are answered");
is(subjects($_), join(' ', 1 .. $messages), "$_ has each once") for @users;
$cyrd->stop;
$cyrd->start;
is(all_at_once(1 + int $messages / 2), 0, 'after a restart, half of them new');
is(subjects($_), join(' ', 1 .. $messages + int $messages / 2), "$_ has each once") for @users;
alarm 0;
$cyrd->ends_well;
done();
