#!/usr/bin/perl
# The partition's journal, as an operator meets it: a power loss that takes what logs had not synced, a log that cannot be opened at the start after,
# a journal that cannot be read, one directory by two names.
use strict;
use warnings;
no warnings "portable";          # the magic number has 64 bits
use FindBin;
use lib $FindBin::Bin;
use Daemon;
use Test::More;

my $imap = Daemon::port();
my $d = Daemon->new(imap => "allowplaintext: yes\nsasl_pwcheck_method: alwaystrue\nautocreate_quota: 0\npartition-again: \@DIR\@/again\n",
    master => "SERVICES {\n imap cmd=\"imapd -N\" listen=\"127.0.0.1:$imap\"\n}\n");
my $dir = $d->{dir};
symlink "$dir/spool", "$dir/again" or die;
my @users = map { "user$_" } 1 .. 12;
my %sent = map { $_ => 0 } @users;

sub answer { my ($s) = @_; local $_; while (<$s>) { return $_ if /^t / } return '' }
sub ask { my ($s, $command) = @_; print $s "t $command\r\n"; return answer($s) }
sub login {
    my ($user) = @_;
    my $s = Daemon::tcp($imap) or die "no connection";
    <$s>;
    ask($s, "LOGIN $user x") =~ /^t OK/ or die "no LOGIN";
    return $s;
}
# Each of them at once appends that many.
sub append_all {
    my ($rounds, @who) = @_;
    my %session = map { $_ => login($_) } @who;
    my $good = 0;
    for (1 .. $rounds) {
        for my $user (@who) {
            my $message = sprintf "Subject: %s %d\r\n\r\n%s\r\n", $user, $sent{$user} + 1, 'x' x (50 + 13 * $sent{$user});
            $sent{$user}++;
            $session{$user}->printf("t APPEND INBOX {%d+}\r\n%s\r\n", length $message, $message);
        }
        answer($session{$_}) =~ /^t OK/ and $good++ for @who;
    }
    is($good, $rounds * @who, "$good messages are acknowledged");
}
# The same, and that many more once the journal is used: its files are made when they are first wanted, meanwhile logs are synced one by one.
sub append_by_journal {
    my ($rounds, @who) = @_;
    for (1 .. 50) {
        last if grep { substr($d->slurp("spool/cyrd.journal.$_"), 0, 8) eq pack 'Q', 0x6a72796387a1c05b } 0, 1;
        append_all(5, @who);
    }
    append_all($rounds, @who);
}
sub all_there {
    my ($what, @who) = @_;
    my @bad;
    for my $user (@who) {
        my $s = login($user);
        my $n = 0;
        ask($s, 'EXAMINE INBOX') =~ /^t OK/ or push @bad, "$user: no EXAMINE";
        if ($sent{$user}) {
            print $s "t FETCH 1:* BODY.PEEK[HEADER.FIELDS (SUBJECT)]\r\n";
            local $_;
            while (<$s>) { last if /^t /; $n++ if /^Subject: $user (\d+)\r$/ && $1 == $n + 1 }
        }
        push @bad, "$user: $n of $sent{$user}" if $n != $sent{$user};
    }
    is("@bad", '', "$what: every message is there");
}
sub crash { my $pid = delete $d->{pid}; kill 'KILL', $pid; waitpid $pid, 0 }
# The segment that this user's messages are in, and where it ends.
sub segment {
    my ($user) = @_;
    my ($found) = grep { `grep -c 'Subject: $user ' $_ 2>/dev/null` > 0 } glob("$dir/spool/?/?/*/log.*");
    return $found;
}
# What a power loss may take of the logs of these users: what the journal has, as they may have synced the rest in their own files. Returns how many octets.
sub lose {
    my %segment = map { segment($_) =~ m{([^/]+)/log\.([0-9a-f]+)$} ? ("$1/" . hex $2 => segment($_)) : () } @_;
    my $lost = 0;
    for my $lap (glob "$dir/spool/cyrd.journal.*") {
        my $all = $d->slurp(substr $lap, 1 + length $dir);
        my $at = 0;
        while ($at + 32 <= length $all) {
            my ($magic, undef, $pieces, undef, $len) = unpack 'QLLQQ', substr $all, $at, 32;
            last if $magic != 0x6a72796387a1c05b;
            my $piece = $at + 32;
            for (1 .. $pieces) {
                my ($id, $segment, $offset, undef, $octets) = unpack 'Z40QQLL', substr $all, $piece, 64;
                $piece += 64 + ($octets + 7 & ~7);
                my $path = $segment{"$id/$segment"} // next;
                open my $f, '+<', $path or die "$path: $!";
                seek $f, $offset, 0;
                print $f "\0" x $octets;
                $lost += $octets;
            }
            $at += $len;
        }
    }
    return $lost;
}

ok($d->start, 'starts with two names of one directory') or BAIL_OUT($d->slurp('log'));
append_by_journal(15, @users);
crash();
cmp_ok(-s "$dir/spool/cyrd.journal.0" // 0, '>', 10_000, 'a journal was used');
cmp_ok(lose(@users[0 .. 8]), '>', 10_000, '… and has what logs lose');
ok($d->start, 'starts after a power loss');
like($d->slurp('log'), qr/journal\.recover .*dir=\S+spool groups=\d+ pieces=\d+ octets_brought_back=[1-9]\d* mailboxes_left=0/, '… and says what it brought back');
is(() = $d->slurp('log') =~ /journal\.recover/g, 1, '… once, though the directory has two names');
all_there('after a power loss', @users);

# One log that cannot be opened: for root, too.
append_by_journal(10, @users);
crash();
my ($lost, @others) = @users;
my $path = segment($lost);
cmp_ok(lose(@users[0 .. 5]), '>', 5_000, 'logs lose what the journal has');
rename $path, "$path.kept" or die;
mkdir $path or die;
ok($d->start, 'starts though one log cannot be opened');
like($d->slurp('log'), qr/journal\.left .*uniqueid=\S+ reason="open \Q$path\E: Is a directory" consequence=/, '… and says which, and why');
ok(-s "$dir/spool/cyrd.journal.left.0", '… and keeps what the journal has');
all_there('the others', @others);
my $s = login($lost);
like(ask($s, 'SELECT INBOX'), qr/^t NO/, 'that one is not shown without what was acknowledged');
print $s "t APPEND INBOX {14+}\r\nSubject: x\r\n\r\n\r\n";
like(answer($s), qr/^t NO/, '… and takes nothing');
like(`$Daemon::build/cyrctl -C $dir/imapd.conf check user/$lost 2>&1`, qr/could not be written back to its log.*Is a directory/s, '… and cyrctl tells why');
like(`$Daemon::build/cyrctl -C $dir/imapd.conf reconstruct user/$lost 2>&1`, qr/could not be written back to its log.*Is a directory/s, '… reconstruct does not go over it');
like(`$Daemon::build/cyrctl -C $dir/imapd.conf status 2>&1`, qr/1 mailbox is not used until the next start: see the log/, '… and status');
append_by_journal(10, @others);
crash();
lose(@others[0 .. 3]);
ok($d->start, 'and once more, with new laps');
ok(-e "$dir/spool/cyrd.journal.left.1", '… which are kept with the former');
all_there('the others', @others);
$d->stop;
is($d->{status}, 0, 'TERM ends it with 0');
rmdir $path or die;
rename "$path.kept", $path or die;
ok($d->start, 'starts when it can be opened again');
all_there('after that start', @users);
is(join(' ', glob "$dir/spool/cyrd.journal.left.*"), '', '… and nothing is left');
append_by_journal(15, @users);
$d->stop;
is($d->{status}, 0, 'TERM ends it with 0');
is(substr($d->slurp("spool/cyrd.journal.$_"), 0, 8), 'ryclosed', "after a clean stop there is nothing in journal $_") for 0, 1;
ok($d->start, 'starts after a clean stop');
unlike($d->slurp('log'), qr/journal\.(?:recover|row)/, '… and there is nothing to bring back');
my @made = map { (stat "$dir/spool/cyrd.journal.$_")[1] } 0, 1;
append_by_journal(15, @users);
is_deeply([map { (stat "$dir/spool/cyrd.journal.$_")[1] } 0, 1], \@made, 'the files are used again');
isnt(substr($d->slurp('spool/cyrd.journal.0'), 0, 8), 'ryclosed', '… and used');
$d->stop;

# What a journal has that cannot be read is not known: nobody goes on without it but an operator.
unlink "$dir/spool/cyrd.journal.1" or die;
mkdir "$dir/spool/cyrd.journal.1" or die;
ok(!$d->start, 'does not start with a journal that cannot be read');
like($d->slurp('log'), qr{\Q$dir\E/spool/cyrd\.journal\.1 cannot be read .*move it away}, '… and says what to do');
rmdir "$dir/spool/cyrd.journal.1" or die;
ok($d->start, 'which helps');
all_there('at last', @users);
$d->stop;
done_testing();
