#!/usr/bin/perl
# arbitron and cyr_userseen: who reads and has subscribed to what, who has not been there for long; with the daemon running and down.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../interop";
use Interop;
use IO::Socket::UNIX;
use JSON::PP;
use POSIX qw(strftime);

my $links = ($ENV{TMPDIR} || '/tmp') . "/cyrd-names-$$";
my $me = $$;
mkdir $links or die "$links: $!";
END { if ($$ == $me) { unlink glob "$links/*"; rmdir $links } }
symlink "$Interop::build/cyrd", "$links/$_" for qw(arbitron cyr_userseen);
my $cyrd = Interop->new(users => [qw(admin alice bob carla)])->start;
sub tool { my ($name, @args) = @_; return run_cmd(["$links/$name", '-C', "$cyrd->{dir}/imapd.conf", @args], err => 1) }
sub out { return (tool(@_))[1] }

my ($admin, $alice, $bob, $carla) = map { $cyrd->client($_) } qw(admin alice bob carla);
$admin->do('CREATE shared/a');
$admin->do("CREATE shared/&AOk-");
$admin->do('SETACL shared/a anyone lrs');
$alice->do("CREATE Box");
$alice->do("SETACL Box $_ lrs") for qw(bob carla);
$alice->append('Box', "Subject: x\n\nx\n");
my $message = "Subject: x\n\nx\n";

# readers: who has selected a mailbox that is not his
$alice->do('SELECT Box');
is(out('arbitron'), "shared 0 0\nshared/&AOk- 0 0\nshared/a 0 0\n", 'nobody: shared mailboxes are told of, a user\'s own is not');
$alice->do('SELECT "Shared Folders/shared/a"');
$bob->do('SELECT "Other Users/alice/Box"');
$carla->do('EXAMINE "Shared Folders/shared/a"');
is(out('arbitron'), "shared 0 0\nshared/&AOk- 0 0\nshared/a 1 0\nuser/alice/Box 1 0\n", 'who has selected; EXAMINE does not count');
$carla->do('SELECT "Other Users/alice/Box"');
$carla->do('FETCH 1 BODY[]');
is(out('arbitron', '-u'), "shared 0 0\nshared/&AOk- 0 0\nshared/a 1:alice 0\nuser/alice/Box 2:bob,carla 0\n", '-u: by name');
is(out('arbitron', '-o', '-u', 'user/*'), "user/alice/Box 2:bob,carla\n", '-o, and a pattern');
is(out('arbitron', '-o', 'shared/a', 'shared/é'), "shared/&AOk- 0\nshared/a 1\n", 'two of them');
is(out('arbitron', 'nonesuch'), '', 'none that fits');

# subscribers
$_->do('SUBSCRIBE "Shared Folders/shared/a"') for $bob, $carla;
$carla->do('SUBSCRIBE "Other Users/alice/Box"');
$alice->do('SUBSCRIBE Box');
is(out('arbitron', '-u', '*a', 'user/%/Box'), "shared/a 1:alice 2:bob,carla\nuser/alice/Box 2:bob,carla 1:carla\n", 'subscribers, but not the owner');
my $day = strftime('%m-%d-%Y', localtime);
my $then = strftime('%m-%d-%Y', localtime(time - 30 * 86400));
my $l = out('arbitron', '-l', 'shared/a') =~ s/ \d\d:\d\d:\d\d//gr;
is($l, "shared/a,alice,r,$then,$day\nshared/a,bob,s,$then,$day\nshared/a,carla,s,$then,$day\n", '-l: a line each, of thirty days');
is(out('arbitron', '-o', '-l', '-D', '01022020:12312040', 'shared/a'), "shared/a,alice,r,01-02-2020 00:00:00,12-31-2040 00:00:00\n", '-D');
is(out('arbitron', '-D', '01012020:01022020'), "shared 0 0\nshared/&AOk- 0 0\nshared/a 0 2\n", 'nobody had then');
is(out('arbitron', '-d', '1', '-o', 'shared/a'), "shared/a 1\n", '-d');
is((tool('arbitron', @$_))[0], 64, "wrong usage: @$_")
    for ['-d', '0'], ['-d', 'x'], ['-p', '0'], ['-D', '0101202'], ['-D', '010120201'], ['-D', '01012020:x'], ['-D', '01012020:010120201'], ['-x'];

# -p: those who were last there long ago. Nobody was: nothing goes.
is((tool('arbitron', '-p', '1'))[0], 0, '-p');
is(out('arbitron', '-o', 'user/*'), "user/alice/Box 2\n", 'who was there of late stays');
is(join(' ', map { /UNSEEN (\d+)/ ? $1 : () } $carla->do('STATUS "Other Users/alice/Box" (UNSEEN)')), '0', 'with what he has seen');

# The same with a time to come: all are dormant, but not those who have the mailbox selected.
sub op {
    my ($op, $args) = @_;
    my $s = IO::Socket::UNIX->new(Peer => "$cyrd->{dir}/conf/socket/cyrctl") or die "control socket: $!";
    print $s encode_json({ op => $op, args => $args }), "\n";
    my @rows;
    while (defined(my $l = <$s>)) { my $j = decode_json($l); push @rows, $j->{row} if $j->{row}; last if exists $j->{ok} }
    return \@rows;
}
is(op('readers.prune', { since => time + 3600, patterns => ['user/*'] })->[0]{pruned}, 0, 'bob and carla are there');
$carla->do('UNSELECT');
is(op('readers.prune', { since => time + 3600, patterns => ['user/*'] })->[0]{pruned}, 1, 'carla is gone');
is(out('arbitron', '-o', '-u', 'user/*'), "user/alice/Box 1:bob\n", 'bob is a reader');
is(join(' ', map { /UNSEEN (\d+)/ ? $1 : () } $carla->do('STATUS "Other Users/alice/Box" (UNSEEN)')), '1', 'what carla has seen is forgotten');

# cyr_userseen: an owner's \Seen that stands beside his mailbox
my @boxes = ('', qw(.Archive .Drafts .Junk .Sent .Trash));
my $lines = join '', map { my $u = $_; map { "removing seen for $u on user.$u$_\n" } $u eq 'alice' ? sort(@boxes, '.Box') : @boxes } qw(alice bob carla);
is(out('cyr_userseen') =~ s/^.* admin .*\n//gmr, $lines, 'cyr_userseen names all users\' mailboxes');
is((tool('cyr_userseen', '-x'))[0], 255, 'wrong usage');
$admin->do('CREATE shared/own');
$admin->do('SETACL shared/own alice lrsipkxte');
$alice->append('Shared Folders/shared/own', $message);
$alice->do('SELECT "Shared Folders/shared/own"');
$alice->do('FETCH 1 BODY[]');
$alice->do('SELECT INBOX');
$admin->do('SETACL shared/own admin lrswipkxte');
$admin->do('RENAME shared/own user/alice/own');
$_->logout for $alice, $bob, $carla;
is((tool('cyr_userseen', '-d'))[0], 0, 'cyr_userseen -d');
$admin->do('RENAME user/alice/own shared/own');
is(out('arbitron', '-u', 'shared/own'), "shared/own 0 0\n", 'it is gone') ;
ok($cyrd->log !~ / error /, 'no error is logged');

# the daemon is down
$admin->logout;
$cyrd->ends_well;
is(out('arbitron', '-u', 'shared/a'), "shared/a 1:alice 2:bob,carla\n", 'the daemon is down: the same');
is((tool('cyr_userseen', '-d'))[0] . (tool('arbitron', '-p', '12'))[0], '00', 'changes, too');
done();
