#!/usr/bin/perl
# cyrctl import and export: Maildir (with folders, flags, keywords, dates) and mbox, in and out again: identical octets, flags and dates; run
# again, killed half-way, with the daemon running and down. MESSAGES=100000 for the large form.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../interop";
use Digest::SHA qw(sha1_hex);
use File::Find;
use File::Path qw(make_path);
use Interop;
use Time::HiRes qw(sleep time);

my $n = $ENV{MESSAGES} || 600;
my $cyrd = Interop->new->start;
my $dir = $cyrd->{dir};
my ($st, $out);

# A Maildir++ with everything in it.
my $source = "$dir/source";
my @folders = ('', '.Sent', '.Lists.c', '.Lists.&AOQ-', '.a&AC4-b');
srand 7;
my @letters = split //, 'DFPRST';
for my $f (@folders) {
    my $d = "$source/$f";
    make_path("$d/cur", "$d/new", "$d/tmp");
    spew("$d/dovecot-keywords", "0 \$Junk\n1 todo\n");
}
for my $i (1 .. $n) {
    my $f = $folders[$i % 7 < 3 ? 0 : $i % @folders];
    my $flags = join '', sort grep { rand() < 0.3 } @letters, 'a', 'b';
    my $text = $i % 50 == 7 ? '' : $i % 50 == 8 ? "no header, no end" : $i % 50 == 9 ? "Subject: only a header\n" :
        "From: a\@example.org\nSubject: number $i\n\n" . ("line $i \xe4 \x{80}\n" x ($i % 40)) . ($i % 50 == 10 ? "odd\r\nends\nhere\n" : '') . ($i % 50 == 11 ? "no last line end" : '');
    $text = "Subject: big\n\n" . ("0123456789abcdef" x 8 . "\n") x 4000 if $i % 199 == 0;
    $text = "Subject: twins\n\nthe same\n" if $i % 97 < 2;
    my $file = "$source/$f/" . ($i % 13 ? "cur/$i.host:2,$flags" : "new/$i.host");
    spew($file, $text);
    my $date = 1_000_000_000 + $i * 1000;
    utime $date, $date, $file;
}

# What a Maildir holds: folder → sorted lines of digest, flags, date.
sub holds {
    my ($top) = @_;
    my %h;
    find({ no_chdir => 1, wanted => sub {
        return unless -f $_ && m{^\Q$top\E/(.*?)/?(?:cur|new)/([^/]+)$};
        my ($folder, $name) = ($1, $2);
        $folder =~ s{^/}{};
        my @keywords = map { /^\d+ (.*)/ ? $1 : () } split /\n/, slurp("$top/$folder/dovecot-keywords") // '';
        my ($info) = $name =~ /:2,(.*)$/;
        my $flags = join ' ', sort map { /[a-z]/ ? $keywords[ord($_) - 97] : $_ } split //, $info // '';
        push @{ $h{$folder} }, join ' ', sha1_hex(slurp($_) // ''), (stat $_)[9], $flags;
    } }, $top);
    @{ $h{$_} } = sort @{ $h{$_} } for keys %h;
    return \%h;
}
sub same {
    my ($a, $b, $name) = @_;
    my ($x, $y) = map { my $h = $_; join "\n", map { my $f = $_; "[$f]", @{ $h->{$f} } } sort keys %$h } $a, $b;
    ok($x eq $y, $name) or note_lines("first difference at " . first_difference($x, $y) . ":\n" . substr($x, 0, 300) . "\n...\n" . substr $y, 0, 300);
}
my $want = holds($source);
ok(keys %$want == 5, 'a source of five folders');

($st, $out) = $cyrd->ctl('import', '-n', 'user/alice', $source);
ok($st eq '0' && $out =~ /user\/alice\s+\d+/, 'import -n only tells') or note_lines($out);
($st, $out) = $cyrd->ctl('mailbox', 'info', 'user/alice');
is($st, '1', 'and makes nothing');

# Killed half-way, several times, then to the end.
my $started = time;
for my $k (1 .. 3) {
    my $pid = fork // die;
    if ($pid == 0) {
        open STDOUT, '>', '/dev/null';
        exec "$Interop::build/cyrctl", '-C', "$dir/imapd.conf", 'import', 'user/alice', $source;
    }
    sleep 0.05 * $k * ($n / 600) ** 0.5;
    kill 'KILL', $pid;
    waitpid $pid, 0;
}
($st, $out) = run_cmd(["$Interop::build/cyrctl", '-C', "$dir/imapd.conf", 'import', 'user/alice', $source], timeout => 600);
is($st, '0', 'import after it was killed three times') or note_lines($out);
print sprintf "# %d messages in %.1f s\n", $n, time - $started;
($st, $out) = run_cmd(["$Interop::build/cyrctl", '-C', "$dir/imapd.conf", '--json', 'import', 'user/alice', $source], timeout => 600);
is(join(' ', sort { $a <=> $b } $out =~ /"imported": ?(\d+)/g), '0 0 0 0 0', 'a second time brings nothing') or note_lines($out);
my $alice = $cyrd->client('alice');
my ($list) = join '', $alice->do('LIST "" *');
ok($list =~ m{"/" Lists/&AOQ-} && $list =~ m{"/" a\.b\r}, 'folders by their names') or note_lines($list);

($st, $out) = run_cmd(["$Interop::build/cyrctl", '-C', "$dir/imapd.conf", 'export', 'user/alice', "$dir/target"], timeout => 600);
is($st, '0', 'export') or note_lines($out);
my $got = holds("$dir/target");
delete $got->{$_} for grep { !$want->{$_} && !@{ $got->{$_} } } keys %$got;
same($got, $want, 'identical octets, flags and dates in every folder');
($st, $out) = run_cmd(["$Interop::build/cyrctl", '-C', "$dir/imapd.conf", 'export', 'user/alice', "$dir/target"], timeout => 600);
same(holds("$dir/target"), $want, 'export again: the same');

# Whatever a user calls a mailbox: files below the target alone, and the same names again.
my @odd_names = ('.', '..', '../../x', 'a/../z', '.hidden', '&-AC4-y', '&-');
$alice->do(qq{CREATE "odd/$_"}), $alice->do(qq{APPEND "odd/$_" }, "Subject: $_\r\n\r\n") for @odd_names;
make_path("$dir/in/odd");
($st, $out) = $cyrd->ctl('export', '-m', 'user/alice/odd', "$dir/in/odd/names");
is($st, '0', 'export -m of mailboxes called .. and the like') or note_lines($out);
ok(-s "$dir/in/odd/names/$_", "$_ is a file") for '&AC4-', '&AC4-.', '&AC4-..sbd/&AC4-..sbd/x', 'a.sbd/&AC4-..sbd/z', '&AC4-hidden', '&-AC4-y', '&-';
is(join(' ', map { s{.*/}{}r } glob "$dir/in/* $dir/in/odd/* $dir/in/.[!.]* $dir/in/odd/.[!.]*"), 'odd names', 'and nothing beside the target');
($st, $out) = $cyrd->ctl('import', 'user/alice/names', "$dir/in/odd/names");
is($st, '0', 'import of them') or note_lines($out);
for (@odd_names) {
    $alice->do(qq{EXAMINE "names/$_"});
    ok(join('', $alice->do('FETCH 1 BODY.PEEK[]')) =~ /Subject: \Q$_\E\r/, "$_ again");
}

# mbox, out and in, with the daemon down.
$alice->logout;
ok($cyrd->stop, 'the daemon ends');
($st, $out) = run_cmd(["$Interop::build/cyrctl", '-C', "$dir/imapd.conf", 'export', '-m', 'user/alice/Sent', "$dir/mbox"], timeout => 600);
is($st, '0', 'export -m') or note_lines($out);
($st, $out) = run_cmd(["$Interop::build/cyrctl", '-C', "$dir/imapd.conf", 'import', 'user/bob', "$dir/mbox/INBOX"], timeout => 600);
is($st, '0', 'import of the mbox') or note_lines($out);
($st, $out) = run_cmd(["$Interop::build/cyrctl", '-C', "$dir/imapd.conf", 'export', 'user/bob', "$dir/bob"], timeout => 600);
my ($sent, $bob) = ($want->{'.Sent'}, holds("$dir/bob")->{''});
is(scalar(@$bob), scalar(@$sent), 'as many messages');
my %dates = map { (split)[1] => 1 } @$sent;
ok(!(grep { !$dates{(split)[1]} } @$bob), 'with their dates');

# A folder with messages and with folders that have some: two levels of them, out and in. A path may have dots.
($st, $out) = $cyrd->ctl('import', 'user/bob/deep/er/most', "$dir/mbox/INBOX");
is($st, '0', 'folders in folders') or note_lines($out);
($st, $out) = $cyrd->ctl('import', "user/bob/$_", "$dir/mbox/INBOX") for 'deep', 'deep/er';
($st, $out) = $cyrd->ctl('export', '-m', 'user/bob', "$dir/../" . ($dir =~ s{.*/}{}r) . '/nested');
is($st, '0', 'export -m of folders in folders') or note_lines($out);
ok(-s "$dir/nested/$_", "$_ is a file") for qw(INBOX deep deep.sbd/er deep.sbd/er.sbd/most);
($st, $out) = $cyrd->ctl('import', 'user/carol', "$dir/nested");
is($st, '0', 'import of them') or note_lines($out);
($st, $out) = $cyrd->ctl('--json', 'user', 'info', 'carol');
is(join(' ', map { /"mailbox": ?"user\/carol([^"]*)".*"messages": ?(\d+)/ && $2 == @$sent ? "[$1]" : () } split /\n/, $out),
    '[] [/deep] [/deep/er] [/deep/er/most]', 'the same folders again') or note_lines($out);
# Deleted, so that what follows finds bob as he was.
$cyrd->ctl('mailbox', 'delete', '-r', '-n', 'user/bob/deep');

# Quoted From_ lines, Content-Length, flags in headers.
spew("$dir/odd", "From x Thu Jan  1 00:00:01 1970\nSubject: one\nStatus: RO\nX-Status: AF\nX-Keywords: todo, later\n\n>From here\n>>From there\n\nFrom y Thu Jan  1 00:00:02 1970\nSubject: two\nContent-Length: 30\n\nFrom this is no new message\n12\n\nFrom z Thu Jan  1 00:00:03 1970\nSubject: three\n");
($st, $out) = $cyrd->ctl('import', 'user/bob/odd', "$dir/odd");
is($st, '0', 'an odd mbox') or note_lines($out);
($st, $out) = $cyrd->ctl('export', 'user/bob/odd', "$dir/oddout");
my %odd = map { my $t = slurp($_); $t =~ /Subject: (\w+)/ ? ($1 => [$t, $_]) : () } glob "$dir/oddout/cur/*";
is($odd{one}[0], "Subject: one\n\nFrom here\n>From there\n", 'From_ lines lose one >');
ok($odd{one}[1] =~ /:2,FRSab$/, 'flags of Status, X-Status and X-Keywords') or note_lines($odd{one}[1]);
is($odd{two}[0], "Subject: two\nContent-Length: 30\n\nFrom this is no new message\n12", 'Content-Length is believed where it fits');
is($odd{three}[0], "Subject: three\n", 'a header alone');

# A Maildir whose owner wants what only the administrator may read.
spew("$dir/secret", "Subject: TOPSECRET\n\nx\n");
make_path(map { ("$dir/$_/cur", "$dir/$_/new", "$dir/$_/tmp") } qw(theirs trap real));
spew("$dir/trap/cur/1.host:2,", "Subject: mine\n\nx\n");
symlink "$dir/secret", "$dir/trap/cur/2.host:2,S";
run_cmd(['mkfifo', "$dir/trap/dovecot-keywords", "$dir/trap/cur/3.host:2,"]);
($st, $out) = run_cmd(["$Interop::build/cyrctl", '-C', "$dir/imapd.conf", 'import', 'user/bob/trap', "$dir/trap"], timeout => 30);
ok($out =~ /2\.host.*symbolic link/ && $out =~ /3\.host.*no file/, 'links and FIFOs of a Maildir are told of') or note_lines("$st $out");
($st, $out) = $cyrd->ctl('export', 'user/bob/trap', "$dir/trapout");
is(join(' ', map { slurp($_) =~ /Subject: (\w+)/ } glob "$dir/trapout/cur/*"), 'mine', '... and not followed');
spew("$dir/theirs/cur/1.host:2,", "Subject: theirs\n\nx\n");
rmdir "$dir/trap/new";
symlink "$dir/theirs/cur", "$dir/trap/new";
($st, $out) = $cyrd->ctl('import', 'user/bob/trap', "$dir/trap");
ok($st ne '0' && $out =~ /trap\/new: no directory, or a symbolic link/, 'nor is one that is a directory') or note_lines("$st $out");
spew("$dir/real/cur/1.host:2,", "Subject: real\n\nx\n");
symlink "$dir/real", "$dir/named";
is(($cyrd->ctl('import', 'user/bob/named', "$dir/named"))[0], '0', 'the one that the administrator names may be a link');
# Nor does export follow what somebody has put where it writes.
$cyrd->ctl('import', 'user/bob/out/sub', "$dir/real");
make_path("$dir/mine", "$dir/into/.sub", "$dir/into2/out.sbd");
symlink "$dir/mine", "$dir/into/.sub/cur";
symlink "$dir/mine", "$dir/into/.sub/tmp";
($st, $out) = $cyrd->ctl('export', 'user/bob/out', "$dir/into");
ok($st ne '0' && $out =~ /no directory, or a symbolic link/, 'export does not write through a link') or note_lines("$st $out");
rmdir "$dir/into2/out.sbd";
symlink "$dir/mine", "$dir/into2/sub.sbd";
spew("$dir/precious", "mine\n");
symlink "$dir/precious", "$dir/into2/sub.new";
is(($cyrd->ctl('export', '-m', 'user/bob/out', "$dir/into2"))[0], '0', 'a file of its own that is a link is replaced');
is(slurp("$dir/precious"), "mine\n", '... and what it led to is as it was');
ok(slurp("$dir/into2/sub") =~ /^Subject: real/m, '... and the mail is there');
is(join(' ', glob "$dir/mine/*"), '', 'nothing was written elsewhere');
symlink "$dir/mine", "$dir/named2";
is(($cyrd->ctl('export', 'user/bob/out', "$dir/named2"))[0], '0', 'the directory that the administrator names may be a link');
ok(glob("$dir/mine/.sub/cur/*"), '... and has the mail');
# A folder that no mailbox can be called: told, and the others come.
make_path(map { my $f = $_; map { "$dir/misnamed/$f/$_" } qw(cur new tmp) } '', '.A', ".B\x01\e[31mred", '.C');
spew("$dir/misnamed/$_/cur/1.host:2,", "Subject: in $_\n\nx\n") for '.A', ".B\x01\e[31mred", '.C';
($st, $out) = $cyrd->ctl('import', 'user/bob/misnamed', "$dir/misnamed");
ok($st ne '0' && $out =~ /forbidden character|control character/ && $out =~ /1 message was not imported/ && $out !~ /[\x01\e]/, 'a folder with a bad name is told of') or note_lines("$st $out");
ok(($cyrd->ctl('list', 'user/bob/misnamed/*'))[1] =~ m{misnamed/A\b.*misnamed/C\b}s, '... and the others are there');
($st, $out) = $cyrd->ctl('mailbox', 'info', "user/bob/x\e[31my");
ok($st ne '0' && $out !~ /\e/, 'an error line has no control characters') or note_lines($out);
# cyradm's words for rights.
is(($cyrd->ctl('acl', 'set', 'user/bob', 'alice', 'read'))[0], '0', 'acl set read');
ok(($cyrd->ctl('acl', 'get', 'user/bob'))[1] =~ /^alice\s+lrs\s*$/m, '... is lrs');
is(($cyrd->ctl('acl', 'set', 'user/bob', 'alice', 'none'))[0], '0', 'acl set none');
ok(($cyrd->ctl('acl', 'get', 'user/bob'))[1] !~ /alice/, '... is no entry');
run_cmd(['rm', '-rf', "$dir/trapout"]);

is(($cyrd->ctl('import', 'user/bob', "$dir/nosuch"))[0], '1', 'a path that is not there');
is(($cyrd->ctl('import', 'user/bob', "$dir/imapd.conf"))[0], '1', 'a file that is no mail');
is(($cyrd->ctl('export', 'user/nobody', "$dir/x"))[0], '1', 'a mailbox that is not there');
is(($cyrd->ctl('export', 'user/bob'))[0], '2', 'no path');
is(($cyrd->ctl('check'))[0], '0', 'cyrctl check finds nothing wrong');
done;
