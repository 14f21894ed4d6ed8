#!/usr/bin/perl
# chaos PORT SECONDS SEED - clients that send commands cut anywhere, do not read, and hang up at any point. What they get does not matter;
# the server must live, and its store be clean.
use strict; use warnings;
use IO::Socket::INET;
use Time::HiRes qw(sleep time);

my ($port, $secs, $seed) = @ARGV;
my @commands = (
    'NOOP', 'SELECT INBOX', 'EXAMINE INBOX', "IDLE\r\nDONE", 'IDLE', 'CLOSE', 'STARTTLS', "AUTHENTICATE PLAIN\r\n*", "LOGIN {3+}\r\nabc",
    "APPEND INBOX {50+}\r\n" . ('x' x 48) . "\r\n", "APPEND nowhere {10+}\r\n0123456789", 'APPEND HUGE', 'LIST "" *', 'LSUB "" *',
    'LIST (SUBSCRIBED) "" % RETURN (STATUS (MESSAGES))', 'LIST "" * RETURN (STATUS (UNSEEN))', 'CREATE %x', 'DELETE %x', 'RENAME %x %x',
    'RENAME INBOX %x', 'STATUS %x (MESSAGES UIDNEXT)', 'SUBSCRIBE %x', 'SETACL INBOX bob +l', 'FETCH 1:* (FLAGS BODY[])',
    'STORE 1:* +FLAGS (\\Deleted k%n)', 'EXPUNGE', 'COPY 1:* %x', 'UID MOVE 1:* %x', 'SEARCH TEXT x', 'UID SEARCH RETURN (SAVE) ALL');

sub one_command {
    my $c = $commands[rand @commands];
    return "APPEND INBOX {2000000}\r\n" . 'y' x int rand 100000 if $c eq 'APPEND HUGE';
    $c =~ s/%x/'x' . int rand 30/ge;
    $c =~ s/%n/int rand 9/ge;
    return $c;
}

# What one client sends.
sub conversation {
    my $user = (qw(alice bob))[rand 2];
    my $t = rand() < 0.85 ? "a LOGIN $user $user-pw\r\n" : '';
    $t .= "t$_ " . one_command() . "\r\n" for 1 .. 1 + rand 12;
    $t .= "z LOGOUT\r\n" if rand() < 0.3;
    return rand() < 0.3 ? substr($t, 0, rand length $t) : $t;
}

$SIG{PIPE} = 'IGNORE';
srand $seed;
my ($end, $refused) = (time + $secs, 0);
while (time < $end) {
    my $s = IO::Socket::INET->new("127.0.0.1:$port") or do { sleep 0.1; die "$port: $!" if ++$refused > 50; next };
    my $t = conversation();
    while (length $t) {
        my $piece = substr $t, 0, rand() < 0.5 ? length $t : 1 + int rand 200, "";
        defined(syswrite $s, $piece) or last;
        sleep 0.001 if rand() < 0.3;
    }
    if (rand() < 0.7) {
        my $until = time + rand 0.3;
        $s->blocking(0);
        while (time < $until) {
            my $n = sysread $s, my $octets, 65536;
            last if defined $n && !$n;
            sleep 0.005 unless $n;
        }
    }
    close $s;
}
