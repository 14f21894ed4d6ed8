#!/usr/bin/perl
# cyrctl quota and Cyrus's program `quota`: limits set, listed, fixed; silent on a sound store; a damaged usage is told and put right.
use strict;
use warnings;
use Cwd qw(abs_path);
use Test::More;
use File::Temp qw(tempdir);

my $build = abs_path($ENV{BUILD} || 'build');
my $dir = tempdir('cyrd-quota.XXXXXX', TMPDIR => 1, CLEANUP => 1);
my $user = $> == 0 ? 'cyrus' : scalar getpwuid($>);
my ($uid, $gid) = (getpwnam $user)[2, 3];
plan skip_all => "no user $user" unless defined $uid;
open my $f, '>', "$dir/imapd.conf" or die $!;
print $f "configdirectory: $dir/conf\npartition-default: $dir/spool\ndefaultpartition: default\nunixhierarchysep: yes\ncyrus_user: $user\n";
close $f;
chown $uid, $gid, $dir, "$dir/imapd.conf";
symlink "$build/cyrd", "$dir/quota";
sub run { my ($cmd) = @_; my $out = `$cmd 2>&1`; return ($? >> 8, $out) }
sub ctl { run("$build/cyrctl -C $dir/imapd.conf @_") }
sub quota { run("$dir/quota -C $dir/imapd.conf @_") }

is((ctl("user create $_"))[0], 0, "user $_") for qw(joe ann);
is((ctl('mailbox create user/joe/Sent'))[0], 0, 'a mailbox');
my ($rc, $out) = ctl('quota set user/joe -s 10M -b 5');
is($rc, 0, 'limits') or diag $out;
like($out, qr{user/joe +STORAGE +0 +10240 +0\n.*MAILBOX +2 +5 +40}, 'shown');
is((ctl('quota set user/ann -s 0'))[0], 0, 'a limit of nothing');
is((ctl('quota set user/nobody -s 10'))[0] != 0, 1, 'no such mailbox');
is((ctl('quota set user/joe -s ten'))[0], 2, 'nonsense');
is((ctl('quota set user/joe'))[0], 2, 'nothing to set');

($rc, $out) = quota('');
is($rc, 0, 'quota');
is($out, <<'END', 'its form is Cyrus\'s');
   Quota   % Used     Used             Resource Root
       0                 0              STORAGE user/ann
                         0              MESSAGE user/ann
                         0 X-ANNOTATION-STORAGE user/ann
                         1        X-NUM-FOLDERS user/ann
   10240        0        0              STORAGE user/joe
                         0              MESSAGE user/joe
                         0 X-ANNOTATION-STORAGE user/joe
       5       40        2        X-NUM-FOLDERS user/joe
END
is((quota('-u ann'))[1] =~ tr/\n//, 5, '-u: one user');
is((quota('user/j'))[1] =~ tr/\n//, 5, 'a prefix');
is((quota('nosuch'))[1] =~ tr/\n//, 1, 'none');
like((quota('-J'))[1], qr/"user\/joe": \{\s+"STORAGE": \{\s+"used": 0,\s+"limit": 10485760/, '-J');
is((quota('-x'))[0], 64, 'an unknown flag');
is_deeply([quota('-f -q')], [0, ''], '-f -q is silent on a sound store');

is((ctl('quota delete user/ann'))[0], 0, 'a root is removed');
unlike((quota(''))[1], qr/ann/, 'it is gone');
is((ctl('quota delete user/ann'))[0] != 0, 1, 'it is not there twice');
is((ctl('user delete joe -n'))[0], 0, 'the user goes');
is((quota(''))[1] =~ tr/\n//, 1, 'and his root with him');
done_testing;
