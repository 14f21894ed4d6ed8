#!/usr/bin/perl
# Users change their partition (cyrctl user move) while mail is delivered and changed, the daemon is stopped and killed: what was acknowledged is
# there, in one place, and nothing is left in the other. The second partition is a file system of its own where there is one; the third is not.
use strict;
use warnings;
use File::Path qw(remove_tree);
use FindBin;
use lib $FindBin::Bin;
use Daemon;
use POSIX qw(WNOHANG);
use Test::More;
use Time::HiRes qw(sleep time);

my $port = Daemon::port();
my $shm = -w '/dev/shm' ? "/dev/shm/cyrd-partitions.$$" : undef;
my $d = Daemon->new(
    imap => "admins: admin\nallowplaintext: yes\npartition-second: " . ($shm // '@DIR@/second') . "\npartition-third: \@DIR\@/third\n",
    master => "SERVICES {\n imap cmd=\"imapd -N\" listen=\"127.0.0.1:$port\"\n}\n");
my $dir = $d->{dir};
my $main = $$;
for my $partition ($shm // "$dir/second", "$dir/third") {
    mkdir $partition or die "$partition: $!";
    chown +(getpwnam $Daemon::user)[2, 3], $partition if $> == 0;
}
END { remove_tree($shm) if $shm && $main == $$ }

sub ctl { my $out = `$Daemon::build/cyrctl -C $dir/imapd.conf @_ 2>&1`; return ($? >> 8, $out) }
sub login {
    my ($user) = @_;
    my $s;
    Daemon::wait_for(sub { $s = Daemon::tcp($port) }, 5) or return;
    <$s>;
    print $s "l LOGIN $user any\r\n";
    while (my $l = <$s>) { return $s if $l =~ /^l OK/ }
    return;
}
# undef: the connection was lost.
sub say_to {
    my ($s, $command) = @_;
    print $s "t $command\r\n" or return;
    my $all = '';
    while (my $l = <$s>) { $all .= $l; return $all if $l =~ /^t / }
    return;
}
sub message {
    my ($n) = @_;
    my $size = $n % 9 == 0 ? 90_000 : 200 + 50 * ($n % 40);
    return "From: a\@b.c\r\nSubject: number $n\r\n\r\n" . chr(97 + $n % 26) x $size . "\r\n";
}
sub directories { my ($partition) = @_; return scalar grep { -d } glob("$partition/?/?/*") }
my %partition = (default => "$dir/spool", second => $shm // "$dir/second", third => "$dir/third");
sub where { my ($box) = @_; my (undef, $out) = ctl('--json', 'mailbox', 'info', $box); return $out =~ /"partition": *"(\w+)"/ ? $1 : 'nowhere' }

# Deliver to INBOX and box, flag and expunge, until the file "over" is there; what was acknowledged goes into a file: uid n.
sub hammer {
    my ($name, $box, $from) = @_;
    my $pid = fork // die;
    return $pid if $pid;
    $SIG{PIPE} = 'IGNORE';
    open my $log, '>>', "$dir/acked.$name" or die;
    $log->autoflush;
    my $s = login('joe');
    say_to($s, "SELECT $box") if $s;
    for (my $n = $from; !-e "$dir/over"; $n++) {
        my $m = message($n);
        my $a = $s && say_to($s, "APPEND $box () {" . length($m) . "+}\r\n$m");
        if ($a && $a =~ /APPENDUID \d+ (\d+)/) {
            my $uid = $1;
            print $log "$uid $n\n";
            if ($n % 7 == 0) {
                print $log "$uid -\n";                  # it may go, now or not
                say_to($s, 'EXPUNGE') if say_to($s, "UID STORE $uid +FLAGS (\\Deleted)");
            } elsif ($n % 5 == 0) {
                say_to($s, "UID STORE $uid +FLAGS (\\Flagged kw$n)");
            }
        } elsif (defined $a && $a !~ /^t /m || !defined $a) {
            sleep 0.05;
            $s = login('joe');
            say_to($s, "SELECT $box") if $s;
        } else {
            print $log "refused $a";
            last;
        }
    }
    POSIX::_exit(0);
}

sub all_there {
    my ($name, $box) = @_;
    my (%want, @refused);
    for (split /\n/, $d->slurp("acked.$name")) {
        if (/^(\d+) (\d+)/) { $want{$1} = $2 } elsif (/^(\d+) -/) { delete $want{$1} } else { push @refused, $_ }
    }
    my $s = login('joe') or return fail("$name: log in");
    my ($lost, $wrong, $got) = (0, 0, say_to($s, "EXAMINE $box"));
    for my $uid (sort { $a <=> $b } keys %want) {
        my $text = say_to($s, "UID FETCH $uid (BODY.PEEK[])") // '';
        if ($text !~ /BODY\[\] \{(\d+)\}\r\n/) { $lost++; diag("uid $uid, number $want{$uid}: $text") if $lost < 3; next }
        my $m = message($want{$uid});
        $wrong++ if index($text, "{" . length($m) . "}\r\n$m") < 0;
    }
    ok(!$lost && !$wrong && !@refused && keys %want > 5, "$name: " . keys(%want) . ' messages are there') or diag("$lost lost, $wrong wrong, @refused[0 .. ($#refused < 2 ? $#refused : 2)]");
}
sub clean {
    my ($where) = @_;
    my ($rc, $out) = ctl('check');
    is($rc, 0, "$where: check finds nothing wrong") or diag($out);
}

ok($d->start, 'the daemon runs') or BAIL_OUT $d->slurp('log');
is((ctl('user', 'create', 'joe'))[0], 0, 'a user');
is((ctl('mailbox', 'create', "user/joe/$_"))[0], 0, $_) for qw(Sub Sub/Deep Empty);

# ---- to and fro ----
my @pids = (hammer('inbox', 'INBOX', 1), hammer('sub', 'Sub', 1));
sleep 1;
my $went = 0;
for my $to (qw(second third default third second default)) {
    my ($rc, $out) = ctl('user', 'move', 'joe', $to);
    is($rc, 0, "to $to") or diag($out);
    is(where('user/joe/Sub/Deep'), $to, '… with all below');
    $went += () = $out =~ /user\/joe/g;
    sleep 0.3;
}
is($went, 24, 'each is told of');
$d->write('over', '');
waitpid $_, 0 for @pids;
all_there('inbox', 'INBOX');
all_there('sub', 'Sub');
clean('to and fro');
ok(Daemon::wait_for(sub { directories($partition{second}) + directories($partition{third}) == 0 }, 3), 'nothing is left in the others');

# ---- stopped while it goes on: all of it or nothing ----
unlink "$dir/over";
my $big = login('joe');
my $m = message(9) x 30;
like(say_to($big, 'APPEND Empty () {' . length($m) . "+}\r\n$m"), qr/^t OK/m, 'a large message') for 1 .. 8;
for my $after (0.05, 0.3) {
    my $to = where('user/joe') eq 'default' ? 'second' : 'default';
    my $pid = fork // die;
    if (!$pid) { ctl('user', 'move', 'joe', $to); POSIX::_exit(0) }
    sleep $after;
    my $took = $d->stop;
    ok(defined $took && $took < 8, 'TERM is obeyed');
    waitpid $pid, 0;
    ok($d->start, 'and it starts again');
    my $is = where('user/joe');
    is(join(' ', map { where($_) } 'user/joe/Sub', 'user/joe/Sub/Deep', 'user/joe/Empty'), "$is $is $is", "all of it is in one partition, $is");
    is(directories($partition{second}), $is eq 'second' ? 4 : 0, 'and nothing in the other') or diag(`ls -R $partition{second} | head -30`);
    clean('TERM');
}

# ---- killed at any moment, with mail coming in ----
my $n = 100_000;
for my $round (1 .. 6) {
    my $to = where('user/joe') eq 'default' ? $round % 2 ? 'second' : 'third' : 'default';
    @pids = (hammer('inbox', 'INBOX', $n += 1000), hammer('sub', 'Sub', $n += 1000));
    sleep 0.3;
    my $pid = fork // die;
    if (!$pid) { ctl('user', 'move', 'joe', $to); POSIX::_exit(0) }
    sleep rand 0.8;
    kill 'KILL', $d->{pid};
    waitpid $d->{pid}, 0;
    delete $d->{pid};
    waitpid $pid, 0;
    $d->write('over', '');
    waitpid $_, 0 for @pids;
    unlink "$dir/over";
    ok($d->start, "killed while it goes to $to") or BAIL_OUT $d->slurp('log');
    my $is = where('user/joe');
    is(join(' ', map { where($_) } 'user/joe/Sub', 'user/joe/Sub/Deep', 'user/joe/Empty'), "$is $is $is", "all of it is in one partition, $is");
    is(join(' ', map { directories($partition{$_}) } qw(default second third)), join(' ', map { $_ eq $is ? 4 : 0 } qw(default second third)), 'and nowhere else');
    clean("kill $round");
}
all_there('inbox', 'INBOX');
all_there('sub', 'Sub');

# ---- without a daemon ----
ok(defined $d->stop, 'the daemon ends');
my $to = where('user/joe') eq 'third' ? 'second' : 'third';
is((ctl('mailbox', 'move', '-o', 'user/joe', $to))[0], 0, 'INBOX alone, on the stopped store');
is(where('user/joe'), $to, '… is there');
isnt(where('user/joe/Sub'), $to, '… and nothing else');
is((ctl('mailbox', 'move', 'user', $to))[0], 0, 'everybody');
is(where('user/joe/Sub/Deep'), $to, '… is there');
clean('stopped');
ok($d->start, 'it starts again');
all_there('inbox', 'INBOX');
ok($d->slurp('log') !~ / error /, 'nothing is logged as an error') or diag(grep { / error / } split /^/, $d->slurp('log'));
done_testing;
