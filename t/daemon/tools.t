#!/usr/bin/perl
# The programs under Cyrus's names that look at mailboxes and users: ctl_mboxlist, mbpath, cyr_info, cyr_deny; with the daemon running and down.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../interop";
use Interop;
use JSON qw(decode_json);

# A program under its own name is the binary behind a link of that name.
my $links = "/tmp/cyrd-names-$$";
$links = "$ENV{TMPDIR}/cyrd-names-$$" if $ENV{TMPDIR};
mkdir $links or die "$links: $!";
END { unlink glob "$links/*"; rmdir $links }
symlink "$Interop::build/cyrd", "$links/$_" for qw(ctl_mboxlist mbpath cyr_info cyr_deny quota reconstruct cyr_buildinfo);
my $cyrd = Interop->new(imap => "imap_timeout: 45\nnosuchoption: 1\nsasl_auto_transition: no\nlmtp_nonsense: 2\n")->start;
sub tool { my ($name, @args) = @_; return run_cmd(["$links/$name", '-C', "$cyrd->{dir}/imapd.conf", @args]) }
sub like { my ($got, $re, $name) = @_; return ok($got =~ $re, $name) || (note_lines("got: $got"), 0)[1] }
sub json { my $j = eval { decode_json($_[0]) }; note_lines($_[0]) if !$j; return $j // {} }

my $alice = $cyrd->client('alice');
$alice->do('CREATE Lists/a.b');
$alice->do('SETACL Lists/a.b bob lrs');
$alice->do('SELECT Sent');

# ctl_mboxlist
my ($st, $out) = tool('ctl_mboxlist', '-d');
my $dump = $out;
my $all = json($out);
is($st, 0, 'ctl_mboxlist -d');
is(join(' ', grep { /^user\.alice/ } sort keys %$all), 'user.alice user.alice.Archive user.alice.Drafts user.alice.Junk user.alice.Lists user.alice.Lists.a^b user.alice.Sent user.alice.Trash',
    'every mailbox by its internal name');
my $e = $all->{'user.alice.Lists.a^b'};
is($e->{acl}{bob}, 'lrs', 'its ACL');
is($e->{acl}{alice}, 'lrswipkxtecdan', 'and its owner');
ok($e->{uniqueid} =~ /^[a-z0-9]{24}$/ && $e->{uidvalidity} =~ /^\d+$/ && !ref $e->{uidvalidity} && $e->{mbtype} eq 'e' && $e->{partition} eq 'default', 'Cyrus\'s members');
is(scalar(grep { /^"user\.alice/ } split /\n/, $out), 8, 'a mailbox a line');
is((tool('ctl_mboxlist', '-d', '-p', 'nosuch'))[1], "{\n}\n", 'none on another partition');
is((tool('ctl_mboxlist', '-d', '-y'))[0], 0, 'with -y also what has only children');
is((tool('ctl_mboxlist'))[0], 64, 'it wants to be told what to do');
is((tool('ctl_mboxlist', '-v'))[0], 0, 'ctl_mboxlist -v');

# mbpath
($st, $out) = tool('mbpath', '-j', 'user/alice/Lists/a.b');
my $path = json($out);
is($st, 0, 'mbpath -j');
ok(-d $path->{data}, 'data is a directory');
is("$path->{mbname}{userid} $path->{mbname}{intname} @{$path->{mbname}{boxes}}", 'alice user.alice.Lists.a^b Lists a^b', 'the name in parts');
is((tool('mbpath', 'user/alice/Lists/a.b'))[1], "$path->{data}\n", 'mbpath alone: the directory');
like((tool('mbpath', '-a', 'user/alice'))[1], qr{^Archive: /.*\nData: /.*\nMeta: /.*\nSieve: .*\nUser: /}, 'mbpath -a');
like((tool('mbpath', '-u', 'alice'))[1], qr{^/}, 'mbpath -u');
is((tool('mbpath', '-p', $path->{data}))[1], "$path->{data}\n", 'mbpath -p');
is((tool('mbpath', 'user/nobody'))[0], 65, 'a mailbox that is not there');
is((tool('mbpath', '-q', 'user/nobody'))[1], '', 'and -q is silent about it');

# cyr_info
like((tool('cyr_info', 'conf'))[1], qr/^altnamespace|^autocreate_quota: 0$/m, 'cyr_info conf');
ok((tool('cyr_info', 'conf'))[1] !~ /^altnamespace/m, 'what has its default value is not in it');
like((tool('cyr_info', 'conf-all'))[1], qr/^altnamespace: yes$/m, 'it is in conf-all');
like((tool('cyr_info', 'conf-default'))[1], qr/^autocreate_quota: -1$/m, 'conf-default');
is((tool('cyr_info', '-M', "$cyrd->{dir}/cyrus.conf", 'conf-lint'))[1], "nosuchoption: 1\nlmtp_nonsense: 2\n", 'conf-lint knows services\' options');
like((tool('cyr_info', 'proc'))[1], qr/^$cyrd->{pid} imaps \[127\.0\.0\.1:\d+\] alice user\.alice\.Sent /m, 'proc');
like((tool('cyr_info', 'version'))[1], qr/^cyrus-imapd \d/, 'version');
ok((tool('cyr_info', 'proc'))[1] !~ /cyrctl/, '... of clients alone');
is((tool('cyr_info', 'nonsense'))[0], 64, 'nonsense');

# cyr_buildinfo
my $facts = json((tool('cyr_buildinfo'))[1]);
my ($dense, $flat) = map { (tool('cyr_buildinfo', $_))[1] } 'dense', 'flat';
like($dense, qr/^\{"component": \{"[^\n]*\}\}\n\z/, 'cyr_buildinfo dense: one line');
ok(JSON->new->canonical->encode(json($dense)) eq JSON->new->canonical->encode($facts), '... of the same');
is(join('', sort split /(?<=\n)/, $flat), join('', sort map { my $g = $_; map { "$g.$_=" . ($facts->{$g}{$_} ? 'true' : 'false') . "\n" } keys %{ $facts->{$g} } } keys %$facts),
    'cyr_buildinfo flat');
is((tool('cyr_buildinfo', 'nonsense'))[0], 64, 'nonsense');

# reconstruct: a mailbox, -r what is below it, -u all that is a user's; quota -q is silent with -f alone
$alice->do('CREATE Lists/gone');
$alice->do('DELETE Lists/gone');
is((tool('reconstruct', 'user/alice'))[1], "user/alice\n", 'reconstruct of one mailbox');
is((tool('reconstruct', '-r', 'user/alice/Lists'))[1], "user/alice/Lists\nuser/alice/Lists/a.b\n", 'reconstruct -r');
like((tool('reconstruct', '-u', 'alice'))[1], qr{^user/alice\nuser/alice/Archive\n.*user/alice/Trash\nDELETED/user/alice/Lists/gone/[0-9A-F]+\n\z}s, 'reconstruct -u');
is((tool('reconstruct', '-q', '-u', 'nobody'))[0], 1, 'reconstruct -u of nobody');
like((tool('quota', '-q'))[1], qr/^   Quota   % Used     Used             Resource Root\n/, 'quota -q alone reports');
is(join('', (tool('quota', '-f', '-q'))[0, 1]), '0', 'quota -f -q is silent');

# cyr_deny
is((tool('cyr_deny', '-s', 'imaps,pop*', '-m', 'ask the desk', 'bob'))[0], 0, 'cyr_deny');
like((tool('cyr_deny', '-l'))[1], qr/^Username\s+Service\(s\)\s+Message\nbob\s+imaps,pop\*\s+ask the desk\n/, 'cyr_deny -l');
ok(!eval { $cyrd->client('bob'); 1 } && $@ =~ /NO \[AUTHORIZATIONFAILED\] ask the desk/, 'bob does not get in, and is told the message') or note_lines($@);
ok(scalar(eval { $cyrd->client('alice')->do('NOOP'); 1 }), 'alice does');
is((tool('cyr_deny', '-a', 'bob'))[0], 0, 'cyr_deny -a');
ok(scalar(eval { $cyrd->client('bob')->do('NOOP'); 1 }), 'he is in again') or note_lines($@);
is((tool('cyr_deny', '-m', "two\nlines", 'bob'))[0], 1, 'a message of two lines is refused');

# With the daemon down: dump again, and load it into an empty store.
$alice->logout;
$dump = (tool('ctl_mboxlist', '-d'))[1];
$all = json($dump);
ok($cyrd->stop, 'the daemon ends');
is((tool('ctl_mboxlist', '-d'))[1], $dump, 'the same dump with the daemon down');
is((tool('cyr_info', 'proc'))[1], '', 'nobody is connected');
my $other = Interop->new;
my $loaded = "$links/ctl_mboxlist -C $other->{dir}/imapd.conf";
spew("$cyrd->{dir}/dump", $dump);
is(system("$loaded -u < $cyrd->{dir}/dump"), 0, 'ctl_mboxlist -u');
my $there = json(scalar `$loaded -d`);
for my $name (sort keys %$all) {
    my ($a, $b) = map { my $x = $_->{$name} // {}; join ' ', @$x{qw(uniqueid uidvalidity partition)}, map { "$_=$x->{acl}{$_}" } sort keys %{ $x->{acl} } } $all, $there;
    is($b, $a, "$name came over");
}
is(system("$loaded -u < $cyrd->{dir}/dump"), 0, 'a second time changes nothing');
spew("$cyrd->{dir}/dump", '{"user.x": {"acl": {"x": 5}}, "../../x": {}, "user.ok": {"acl": {"ok": "lrs"}}, "user.far": {"mbtype": "er", "acl": {}}}');
is(system("$loaded -u < $cyrd->{dir}/dump 2>$cyrd->{dir}/errors") >> 8, 1, 'bad entries are refused');
is(join(' ', grep { /ok|far|x$/ } keys %{ json(scalar `$loaded -d`) }), 'user.ok', 'the good one beside them is loaded');
spew("$cyrd->{dir}/dump", '[');
is(system("$loaded -u < $cyrd->{dir}/dump 2>$cyrd->{dir}/errors") >> 8, 65, 'what is no dump');
done;
