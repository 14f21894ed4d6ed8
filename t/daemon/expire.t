#!/usr/bin/perl
# cyrctl expire: what was expunged or deleted stays until it is run, then it is gone and the space with it; the rest is untouched.
use strict;
use warnings;
use Test::More;
use File::Temp qw(tempdir);

my $build = $ENV{BUILD} || 'build';
my $dir = tempdir('cyrd-expire.XXXXXX', TMPDIR => 1, CLEANUP => 1);
open my $f, '>', "$dir/imapd.conf" or die $!;
print $f "configdirectory: $dir/conf\npartition-default: $dir/spool\ndefaultpartition: default\nunixhierarchysep: yes\n",
    'cyrus_user: ', scalar getpwuid($>), "\n";
close $f;
# As root cyrctl becomes cyrus_user: the tree must be that user's.
if ($> == 0) {
    my ($uid, $gid) = (getpwnam 'cyrus')[2, 3];
    plan skip_all => 'no user cyrus' unless defined $uid;
    open $f, '>>', "$dir/imapd.conf" or die $!;
    close $f;
    my $text = do { local $/; open my $h, '<', "$dir/imapd.conf"; <$h> };
    $text =~ s/^cyrus_user: .*$/cyrus_user: cyrus/m;
    open $f, '>', "$dir/imapd.conf" or die $!;
    print $f $text;
    close $f;
    chown $uid, $gid, $dir, "$dir/imapd.conf";
}
sub ctl { my $out = `$build/cyrctl -C $dir/imapd.conf @_ 2>&1`; return ($? >> 8, $out) }

my ($rc, $out) = ctl('user create joe');
is($rc, 0, 'a user') or diag $out;
is((ctl('mailbox create user/joe/Old'))[0], 0, 'a mailbox');
is((ctl('mailbox delete user/joe/Old'))[0], 0, 'deleted');
like((ctl(q(list 'DELETED/*')))[1], qr{DELETED/user/joe/Old/}, 'it stays below DELETED');
is((ctl('expire'))[0], 0, 'expire with the default of 7 days');
like((ctl(q(list 'DELETED/*')))[1], qr{DELETED/user/joe/Old/}, 'it is too young');
is((ctl('expire -x 0 -d 0'))[0], 0, 'expire all');
is((ctl(q(list 'DELETED/*')))[1], '', 'it is gone');
like((ctl('list'))[1], qr{user/joe}, 'INBOX is not');
is((ctl('expire -x some'))[0], 2, 'nonsense is refused');
is((ctl('expire -x -1'))[0], 2, 'so is a negative number');
is((ctl('check'))[0], 0, 'check finds nothing wrong');
done_testing;
