#!/usr/bin/perl
# cyr_expire, unexpunge, ipurge and cyr_df, through the running daemon and on the stopped store; cyr_expire as an event. What they print is, to the
# octet, what Cyrus 3.6.1's programs print for the same mail.
use strict;
use warnings;
use Cwd qw(abs_path);
use FindBin;
use lib $FindBin::Bin;
use Daemon;
use Test::More;
use Time::HiRes qw(sleep time);

my $port = Daemon::port();
my $d = Daemon->new(
    imap => "admins: admin\nallowplaintext: yes\nunixhierarchysep: no\naltnamespace: no\n",
    master => "SERVICES {\n imap cmd=\"imapd -N\" listen=\"127.0.0.1:$port\"\n}\n");
my $dir = $d->{dir};
mkdir "$dir/bin";
symlink "$Daemon::build/cyrd", "$dir/bin/$_" for qw(cyr_expire unexpunge ipurge cyr_df);

# Exit status, stdout, stderr; times are replaced.
sub tool {
    my ($name, @args) = @_;
    my $cmd = join ' ', map { my $a = $_; $a =~ s/'/'\\''/g; "'$a'" } "$dir/bin/$name", '-C', "$dir/imapd.conf", @args;
    system "$cmd >$dir/out.1 2>$dir/out.2 </dev/null";
    my ($rc, @out) = ($? >> 8, map { s/\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}/TIME/gr =~ s/\.[0-9A-F]{8}\b/.SINCE/gr } $d->slurp('out.1'), $d->slurp('out.2'));
    return ($rc, @out);
}
sub ctl { my $out = `$Daemon::build/cyrctl -C $dir/imapd.conf @_ 2>&1`; return ($? >> 8, $out) }

my %conn;
sub imap {
    my ($user, $command) = @_;
    my $c = $conn{$user} //= do {
        my $s = Daemon::tcp($port) or die "no server";
        <$s>;
        print $s "l LOGIN $user any\r\n";
        while (my $l = <$s>) { last if $l =~ /^l / }
        $s;
    };
    print $c "t $command\r\n";
    my $all = '';
    while (my $l = <$c>) { $all .= $l; return $all if $l =~ /^t / }
    die "$command: connection lost after $all";
}
sub append {
    my ($user, $box, $flags, $header, $date) = @_;
    my $text = ($header =~ s/\n/\r\n/gr) . "\r\nbody\r\n";
    like(imap($user, "APPEND $box ($flags) " . ($date ? qq("$date" ) : '') . '{' . length($text) . "+}\r\n$text"), qr/^t OK/m, 'a message');
}
sub days_ago { my ($n) = @_; my @t = gmtime(time - $n * 86400); return sprintf '%s, %02d %s %d 12:00:00 +0000',
    (qw(Sun Mon Tue Wed Thu Fri Sat))[$t[6]], $t[3], (qw(Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec))[$t[4]], $t[5] + 1900 }

ok($d->start, 'the daemon runs') or BAIL_OUT $d->slurp('log');
is((ctl('user', 'create', $_))[0], 0, "user $_") for qw(joe ann);
is((ctl('mailbox', 'create', $_))[0], 0, $_) for qw(user.joe.Sub shared.news);
append('joe', 'INBOX', '\Deleted \Seen work', qq(From: A Sender <s1\@example.org>\nTo: "Last, First" <lf\@example.org>,\n Third <t\@example.org>\nSubject: Message "number" 1\nDate: Mon, 02 Nov 2026 23:30:00 -0800\n));
append('joe', 'INBOX', '\Deleted', "From: =?utf-8?q?J=C3=B6rg?= <j\@example.org>\nSubject: plain\nBcc: undisclosed:;\n");
append('joe', 'INBOX', '', "From: a\@b.c\nDate: " . days_ago(9) . "\n");
append('joe', 'INBOX.Sub', '\Flagged', "From: <\@route.example:u\@host.org>\nSubject: \e[2J\n");
imap('joe', 'SELECT INBOX');
like(imap('joe', 'EXPUNGE'), qr/^\* 1 EXPUNGE\r\n\* 1 EXPUNGE/m, 'two are expunged');

# ---- unexpunge ----
my $listed = <<"END";
UID: 1
\tSize: 170
\tSent: TIME
\tRecv: TIME
\tExpg: TIME
\tFrom: A Sender <s1\@example.org>
\tTo  : "Last, First" <lf\@example.org>,Third <t\@example.org>
\tCc  : 
\tBcc : 
\tSubj: {18}\r
Message "number" 1

UID: 2
\tSize: 89
\tSent: TIME
\tRecv: TIME
\tExpg: TIME
\tFrom: "J\xc3\xb6rg" <j\@example.org>
\tTo  : 
\tCc  : 
\tBcc : undisclosed:;
\tSubj: "plain"

END
my @r = tool('unexpunge', '-l', 'user.joe');
is_deeply([@r], [0, $listed, ''], 'unexpunge -l') or diag explain \@r;
like(`cat $dir/out.1`, qr/\tSent: Mon Nov  2 00:00:00 2026\n/, 'the day that the sender wrote');
is_deeply([(tool('unexpunge', '-l', 'user.joe', 2, 'x', 7))[1] =~ /UID: (\d+)/g], [2], 'some of them');
is_deeply([tool('unexpunge', '-l', 'user.nosuch')], [0, 'Failed to open mailbox user.nosuch: Mailbox does not exist', ''], 'no mailbox');
is_deeply([tool('unexpunge', '-a', 'user.nosuch')], [20, "Failed to open mailbox 'user.nosuch'\n", ''], 'no mailbox to bring back from');
is((tool('unexpunge', @$_))[0], 255, "usage: @$_") for [], ['-l'], ['-u', 'user.joe'], ['-a', '-l', 'user.joe'], ['-z'];
is_deeply([tool('unexpunge', '-f', '\Seen', '-a', 'user.joe')], [70, '', "fatal error: can't set a system flag\n"], 'no system flag');
is_deeply([tool('unexpunge', '-v', '-u', '-d', '-f', 'Found', 'user.joe', 1)],
    [0, "restoring expunged messages in mailbox 'user.joe'\nUnexpunged user.joe: 1 => 4\nrestored 1 expunged messages\n", ''], 'unexpunge -u');
is_deeply([tool('unexpunge', '-u', 'user.joe', 77)], [0, "restoring expunged messages in mailbox 'user.joe'\nrestored 0 expunged messages\n", ''], '... of one that is not there: as Cyrus');
imap('joe', 'NOOP');
like(imap('joe', 'UID FETCH 4 (FLAGS)'), qr/FLAGS \((?=[^)]*\\Seen)(?=[^)]*work)(?=[^)]*Found)(?![^)]*Deleted)/, 'its flags');
is_deeply([tool('unexpunge', '-t', '1h', 'user.joe')], [0, "restoring expunged messages in mailbox 'user.joe'\nrestored 1 expunged messages\n", ''], '-t');
is_deeply([tool('unexpunge', '-a', 'user.joe')], [0, "restoring all expunged messages in mailbox 'user.joe'\nrestored 0 expunged messages\n", ''], '-a');

# ---- ipurge ----
sub sums { my ($total, $bytes, $gone, $gone_bytes) = @_; return sprintf "Total messages    \t\t %d\nTotal bytes       \t\t %d\nDeleted messages  \t\t %d\n"
    . "Deleted bytes     \t\t %d\nRemaining messages\t\t %d\nRemaining bytes   \t\t %d\n", $total, $bytes, $gone, $gone_bytes, $total - $gone, $bytes - $gone_bytes }
my $size = 170 + 89 + 60;
@r = tool('ipurge', '-n', '-f', '-s', '-X', '-i', '-d', 1, 'user.joe');
like($r[1], qr/Deleted messages  \t\t 3\n/, '-X: by arrival');
@r = tool('ipurge', '-n', '-f', '-s', '-d', 5, 'user.joe');
is_deeply([$r[0], [$r[1] =~ /^UID: (\d+)\n\tSize: \d+\n\tSent: TIME\n\tRecv: TIME\n\tFrom/mg], $r[2]], [0, [3, 4], ''], 'ipurge -n by age') or diag explain \@r;
like($r[1], qr/Deleted messages  \t\t 2\nDeleted bytes     \t\t 230\nRemaining messages\t\t 1\n/, 'its sums');
is_deeply([tool('ipurge', '-v', '-n', '-d', 5)], [0, join("", map { "Working on $_...\n" . sums(0, 0, 0, 0) } qw(shared shared.news)), ''], 'not users\' without -f');
@r = tool('ipurge', '-v', '-f', '-b', 160, 'user.joe*');
is_deeply([@r], [0, "Working on user.joe...\n" . sums(3, $size, 1, 170) . "Working on user.joe.Sub...\n" . sums(1, 58, 0, 0), ''], 'by size') or diag explain \@r;
is_deeply([tool('ipurge', '-f', '-s', '-d', 0, 'user.joe.Sub')], [0, sums(1, 58, 0, 0), ''], '-s: flagged ones stay');
unlike((tool('ipurge', '-n', '-f', '-d', 0, 'user.joe.Sub'))[1], qr/\e/, 'a header cannot speak to the terminal');
is_deeply([(tool('ipurge', '-d', 'x'))[0], (tool('ipurge'))[0], (tool('ipurge', '-z'))[0]], [0, 0, 0], 'its statuses are always 0');
like((tool('ipurge'))[1], qr/^One of these must be specified -d, -b -k, -m\nusage: \S+ \[-f\] \[-s\]/, 'usage');

# ---- cyr_expire ----
is((tool('cyr_expire', @$_))[0], 64, "usage: @$_") for [], ['-v'], ['-X', 'abc'], ['-D', '1d12h'], ['-X', '-1'], ['-E'];
like((tool('cyr_expire'))[2], qr/^Missing arguments\.\nUsage: cyr_expire \[OPTIONS\] \{mailbox\|users\}\n/, 'what is missing');
my @boxes = qw(shared shared.news user.ann user.joe user.joe.Sub);
my $cleaning = join '', map { "cleaning up expunged messages in $_\n\n" } @boxes;
is_deeply([tool('cyr_expire', '-v', '-E', 3)], [0, '', "$cleaning\nExpired 0 and expunged 0 out of 6 messages from 5 mailboxes\n\n"], '-E');
is_deeply([tool('cyr_expire', '-x', '-v', '-E', 3)], [0, '', ''], '-x');
like(imap('admin', 'SETMETADATA user.joe (/shared/vendor/cmu/cyrus-imapd/expire "3")'), qr/^t OK/m, 'an entry');
is_deeply([tool('cyr_expire', '-v', '-a', '-X', '1d', '-p', 'user.joe')],
    [0, '', "Expunging deleted messages in mailboxes older than 1.00 days\n\n"
        . join('', map { "cleaning up expunged messages in $_\n\n" } qw(user.joe user.joe.Sub))
        . "\nExpired 0 and expunged 0 out of 4 messages from 2 mailboxes\n\n"], '-a: it does not count');
sleep 1.1;
is_deeply([tool('cyr_expire', '-v', '-X', 0, '-u', 'joe', '-t')],
    [0, '', "Expunging deleted messages in mailboxes older than 0.00 days\n\nexpiring messages in user.joe older than 3.00 days\n\n"
        . "Expunging userflag 0 (work) from user.joe\n\nExpunging userflag 1 (Found) from user.joe\n\n"
        . join('', map { "cleaning up expunged messages in $_\n\n" } qw(user.joe user.joe.Sub))
        . "\nExpired 1 and expunged 2 out of 4 messages from 2 mailboxes\n\nExpunged 2 user flags\n\n"], 'it does: the old one is expunged, by its Date')
    or diag $d->slurp('out.2');
like(imap('joe', 'STATUS INBOX (MESSAGES)'), qr/MESSAGES 1/, 'the other stays');
is((ctl('mailbox', 'delete', 'user.joe.Sub'))[0], 0, 'a mailbox is deleted');
is_deeply([(tool('cyr_expire', '-v', '-x', '-D', 1))[2]], ["Removing deleted mailboxes older than 1.00 days\n\nRemoved 0 deleted mailboxes\n\n"], 'it is too young');
$d->stop;

# ---- on the stopped store ----
is_deeply([tool('cyr_expire', '-v', '-x', '-D', 0)], [0, '', "Removing deleted mailboxes older than 0.00 days\n\nCleaning up DELETED.user.joe.Sub.SINCE\n\n"
    . "Removing: DELETED.user.joe.Sub.SINCE\n\nRemoved 1 deleted mailboxes\n\n"], '-D');
is_deeply([tool('unexpunge', '-a', 'user.joe')], [0, "restoring all expunged messages in mailbox 'user.joe'\nrestored 0 expunged messages\n", ''], 'nothing is left');
@r = tool('cyr_df');
like($r[1], qr/^Partition       1k-blocks         Used    Available Use% Location\n(?:\w+ +\d+ +\d+ +\d+ +\d+% \S+\n)$/, 'cyr_df') or diag $r[1];
is((tool('cyr_df', '-z'))[0], 64, 'its usage');

# ---- inherited, if the configuration says so ----
$d->write('imapd.conf', $d->slurp('imapd.conf') . "expire_inherit: yes\n");
$d->write('cyrus.conf', $d->slurp('cyrus.conf') . "EVENTS {\n expire cmd=\"cyr_expire -D 0 -X 3 -E 3\"\n bad cmd=\"cyr_expire -X 3x\"\n}\n");
is((ctl('mailbox', 'create', 'user.joe.Lists'))[0], 0, 'a mailbox below');
is((ctl('mailbox', 'create', 'user.joe.Old'))[0], 0, 'another');
is((ctl('mailbox', 'delete', 'user.joe.Old'))[0], 0, 'deleted');
%conn = ();
ok($d->start, 'the daemon runs again') or BAIL_OUT $d->slurp('log');
ok($d->wait_log(qr/expire\.mailboxes removed=1/, 10), 'the event removes the deleted mailbox') or diag $d->slurp('log');
like($d->slurp('log'), qr/event\.failed name=bad .*3x/, 'what an event does not understand it says');
append('joe', 'INBOX.Lists', '', "From: a\@b.c\nDate: " . days_ago(9) . "\n");
append('joe', 'INBOX.Lists', '', "From: a\@b.c\nDate: " . days_ago(1) . "\n");
like((tool('cyr_expire', '-v', '-E', 3, '-u', 'joe'))[2], qr/expiring messages in user\.joe\.Lists older than 3\.00 days\n.*\nExpired 1 and expunged 0 out of \d /s, 'the entry above counts');
$d->stop;
is((ctl('check'))[0], 0, 'check finds nothing wrong');
done_testing;
