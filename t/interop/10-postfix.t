#!/usr/bin/perl
# Postfix delivers 1,000 different messages by LMTP (100 in the short form), half over the Unix socket, half over TCP through a relay
# that keeps what Postfix sent. Below Return-Path and Received every one is, fetched over IMAP, byte for byte what Postfix sent.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use File::Path qw(make_path);
use Interop;
use Messages;
use Postfix;
use Time::HiRes qw(time);

skip_all('Postfix needs root: run this as root (CI does)') if $> != 0;
die "Postfix is missing: etc/install-deps --test\n" unless which('postfix');

my $count = full ? 1000 : 100;
my $cyrd = Interop->new(imap => "maxmessagesize: 104857600\nmaxheaderlines: 5000\n")->start;
# Mail for alice+Archive goes there only where anyone may post; else it goes to INBOX, as in Cyrus.
{ my $c = $cyrd->client('alice'); $c->do('SETACL Archive anyone p'); $c->logout }
my $relay_port = free_port();
make_path("$cyrd->{dir}/sent");
my $relay = open(my $relay_out, '-|', 'python3', "$FindBin::Bin/relay.py", $relay_port, "127.0.0.1:$cyrd->{lmtp}", "$cyrd->{dir}/sent") or die;
die 'relay' unless <$relay_out> =~ /LISTENING/;
# Its handle must outlive it: closing it waits for its end.
END { local $?; kill 'KILL', $relay if $relay; close $relay_out if $relay_out }

my $postfix = Postfix->new(transports => {
    tcp => ['example.test', "lmtp:inet:127.0.0.1:$relay_port"],
    unix => ['unix.test', "lmtp:unix:$cyrd->{lmtp_socket}"],
})->start;

my (%injected, %kind, %exact);
my $started = time;
for my $n (0 .. $count - 1) {
    my ($from, $octets, $kind, $exact) = message($n);
    ($injected{$n}, $kind{$n}, $exact{$n}) = ($octets, $kind, $exact);
    # A message that Postfix alters goes through the relay, which knows what it was altered to. Some have several recipients, and a detail.
    my $domain = $exact && $n % 2 && $n != 40 ? 'unix.test' : 'example.test';
    my @to = $n % 10 == 5 ? ("alice\@$domain", "bob\@$domain") : $n % 10 == 6 ? ("alice+Archive\@$domain") : ("alice\@$domain");
    my $r = $postfix->smtp($from, \@to, $octets);
    die "Postfix refuses message $n: $r" unless $r =~ /^250/;
}
ok(1, "$count messages handed to Postfix");
ok(wait_for(sub { $postfix->queued == 0 }, 60 + $count / 2), 'its queue runs empty') or note_lines(join "\n", (grep { /status=(?!sent)/ } split /\n/, $postfix->log)[0 .. 5]);
printf "# %d messages in %.1f s\n", $count, time - $started;
my @not_sent = grep { /status=(?!sent)/ } split /\n/, $postfix->log;
ok(!@not_sent, 'every delivery was accepted') or note_lines(join "\n", @not_sent[0 .. ($#not_sent > 9 ? 9 : $#not_sent)]);

# What Postfix sent, by message number, from the relay.
my %sent;
for my $file (glob "$cyrd->{dir}/sent/*") {
    my $m = slurp($file);
    $m =~ s/^\.//mg;
    $sent{$1} = $m if $m =~ /^Message-ID: <interop-(\d+)\@/mi;
}

my $trace = qr/\AReturn-Path: <([^>]*)>\r\nReceived: from [^\r]*\r\n(?:[ \t][^\r]*\r\n)+/;
my $postfix_trace = qr/\AReceived: from [^\r]*\r\n(?:[ \t][^\r]*\r\n)+/;
my (%seen, %bad, $through_relay);
for my $where (['alice', 'INBOX'], ['alice', 'Archive'], ['bob', 'INBOX']) {
    my ($user, $box) = @$where;
    my $c = $cyrd->client($user);
    $c->select($box);
    my $got = $c->fetch;
    for my $uid (sort { $a <=> $b } keys %$got) {
        my $m = $got->{$uid}{body};
        my ($n) = $m =~ /^Message-ID: <interop-(\d+)\@/mi or do { push @{ $bad{'no Message-ID'} }, "$user $box uid $uid"; next };
        $seen{"$user $box"}{$n}++;
        $m =~ s/$trace// or do { push @{ $bad{'no Return-Path and Received'} }, "$n"; next };
        my $from = $1;
        my ($want_from) = message($n);
        push @{ $bad{'Return-Path'} }, "$n: <$from> for <$want_from>" if $from ne $want_from;
        if (defined $sent{$n}) {
            $through_relay++;
            push @{ $bad{'not what Postfix sent'} }, "$n ($kind{$n}): " . first_difference($sent{$n}, $m) if $m ne $sent{$n};
        }
        next unless $exact{$n};
        $m =~ s/$postfix_trace//;
        push @{ $bad{'not what was handed in'} }, "$n ($kind{$n}): " . first_difference($injected{$n}, $m) if $m ne $injected{$n};
    }
    # The sizes that the store tells are those of what it sends.
    my %size = map { /UID (\d+)/ && (my $u = $1); /RFC822\.SIZE (\d+)/ ? ($u => $1) : () } $c->do('UID FETCH 1:* (UID RFC822.SIZE)');
    my @wrong = grep { $size{$_} != length $got->{$_}{body} } keys %size;
    push @{ $bad{'RFC822.SIZE'} }, "$user $box uid $_: $size{$_}, " . length $got->{$_}{body} for @wrong;
    $c->logout;
}
for my $check ('no Message-ID', 'no Return-Path and Received', 'Return-Path', 'not what Postfix sent', 'not what was handed in', 'RFC822.SIZE') {
    ok(!$bad{$check}, "no message: $check") or note_lines(join "\n", grep { defined } @{ $bad{$check} }[0 .. 9]);
}
my $alice = join ' ', grep { $_ % 10 != 6 && ($seen{'alice INBOX'}{$_} // 0) != 1 } 0 .. $count - 1;
is($alice, '', 'each message is in alice\'s INBOX exactly once');
is(join(' ', grep { $_ % 10 == 6 && ($seen{'alice Archive'}{$_} // 0) != 1 } 0 .. $count - 1), '', 'those for alice+Archive are in Archive');
is(join(' ', grep { $_ % 10 == 5 && ($seen{'bob INBOX'}{$_} // 0) != 1 } 0 .. $count - 1), '', 'those for both are in bob\'s INBOX too');
ok($through_relay > $count * 0.45 && scalar(keys %sent) < $count, "$through_relay fetched messages were compared with what the relay saw Postfix send");
ok(length $injected{40} > 20 << 20, 'one had a 20 MiB attachment');

# What the store cannot take comes back to the sender, and is not lost or retried for ever.
$postfix->smtp('alice@example.test', ['no%user@example.test'], "Subject: x\r\n\r\nx\r\n");
ok(wait_for(sub { $postfix->log =~ /no%user.*status=bounced/ }, 30), 'a recipient that can be no user bounces') or note_lines(substr $postfix->log, -1500);
ok(wait_for(sub { $postfix->queued == 0 }, 30), 'and the queue is empty again');
$postfix->stop;
$cyrd->ends_well;
done;
