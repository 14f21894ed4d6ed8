#!/usr/bin/perl
# make install DESTDIR: what is put where, and that the tree runs in place; the manual is current; the samples are right.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Daemon;
use Cwd qw(abs_path);
use File::Temp qw(tempdir);
use Test::More;

chdir $Daemon::top or die;
my ($b) = $Daemon::build =~ m{([^/]+)\z};
my $dest = tempdir('cyrdinstXXXXXX', DIR => $ENV{TMPDIR} || '/tmp', CLEANUP => 1);
chmod 0755, $dest;
my $out = `make -s B=$b install DESTDIR=$dest PREFIX=/opt/x 2>&1`;
is($?, 0, 'make install') or diag $out;
my $p = "$dest/opt/x";
ok(-x "$p/sbin/$_", "sbin/$_") for 'cyrd', 'master', (-e 'server/ctl/main.c' ? 'cyrctl' : ());
my @missing = grep { !-x "$p/lib/cyrus/bin/$_" || !-x "$p/sbin/$_" } qw(imapd ctl_cyrusdb quota reconstruct cyr_buildinfo mbpath
    deliver lmtpd sievec timsieved sync_client sync_server sync_reset mupdate ctl_mboxlist cyr_expire cyr_info cyr_deny
    ctl_conversationsdb cyr_dbtool cvt_cyrusdb ipurge unexpunge idled pop3d backupd ctl_backups cyr_backup squatter relocate_by_id
    smmapd promstatsd);
is("@missing", '', 'every program of Cyrus is in lib/cyrus/bin and in sbin');
ok(!(grep { readlink($_) =~ m{^/} } grep { -l } glob "$p/sbin/* $p/lib/cyrus/bin/*"), 'links are relative');
is(abs_path("$p/lib/cyrus/bin/imapd"), "$p/sbin/cyrd", '... and lead to the binary');
is(`$p/lib/cyrus/bin/master -V`, "cyrus-imapd 3.6.1-cyrd\n", 'master runs in place');
is(`$p/sbin/cyrctl --completion $_->[0]`, do { open my $h, '<', "$p/share/$_->[1]" or die $_->[1]; local $/; <$h> }, "completion for $_->[0]")
    for [ bash => 'bash-completion/completions/cyrctl' ], [ zsh => 'zsh/site-functions/_cyrctl' ];
ok(-f "$p/share/man/man8/cyrd.8" && -f "$p/share/man/man5/imapd.conf.5", 'manual pages');

# A program of the tree is found relative to the executable, by one found anywhere.
my $port = Daemon::port();
open my $f, '>', "$p/lib/cyrus/bin/helper" or die;
print $f "#!/bin/sh\necho helper >>\$1\n";
close $f;
chmod 0755, "$p/lib/cyrus/bin/helper";
my $d = Daemon->new(master => "START {\n  h cmd=\"helper \@DIR\@/conf/said\"\n  r cmd=\"$p/lib/cyrus/bin/ctl_cyrusdb -C \@DIR\@/imapd.conf -r\"\n}\n"
    . "SERVICES {\n  imap cmd=\"$p/lib/cyrus/bin/imapd -C \@DIR\@/imapd.conf\" listen=127.0.0.1:$port\n}\n");
{
    no warnings 'redefine';
    local *Daemon::command = sub { my ($self, @more) = @_; return ("$p/sbin/cyrd", '-C', "$self->{dir}/imapd.conf", '-M', "$self->{dir}/cyrus.conf", @more) };
    ok($d->start, 'the installed daemon starts') or diag $d->slurp('log');
}
is($d->slurp('conf/said'), "helper\n", '... finds programs of its own tree');
ok(Daemon::tcp($port), '... and serves');
$d->stop;

ok(`$Daemon::build/cyrd --manual-options` eq do { open my $h, '<', 'man/imapd.conf.5'; local $/; <$h> },
    'man/imapd.conf.5 is what the option table says (make man)');
ok(`$Daemon::build/cyrd --manual-programs` eq do { open my $h, '<', 'man/cyrus-programs.8'; local $/; <$h> },
    'man/cyrus-programs.8 is what the table of programs says (make man)');
my $page = do { open my $h, '<', 'man/cyrctl.8.in'; local $/; <$h> };
my $commands = `$Daemon::build/cyrctl --manual-commands`;
$page =~ s/^\@COMMANDS\@\n/$commands/m;
ok($page eq do { open my $h, '<', 'man/cyrctl.8'; local $/; <$h> }, 'man/cyrctl.8 is what the table of commands says (make man)');
# A page for each name, of its own for what is built.
my @names = map { m{([^/]+)$} } glob "$p/lib/cyrus/bin/*";
@names = grep { $_ ne 'helper' } @names;
ok(@names > 60, scalar(@names) . ' names');
is(join(' ', grep { my $f = `man -M $p/share/man -w 8 $_ 2>/dev/null`; $f !~ m{/man8/} } @names, 'cyrd', 'cyrctl'), '', 'each has a manual page that man finds');
my %built = map { /"program":"(\w+)".*"built":(true|false)/ ? ($1 => $2 eq 'true') : () } split /\n/, `$Daemon::build/cyrctl -C $d->{dir}/imapd.conf --json info`;
ok($built{imapd} && !$built{masssievec}, 'cyrctl info knows what is built');
is(join(' ', grep { $built{$_} && !-s "man/$_.8" } sort keys %built), '', 'what is built has a page of its own');
is(join(' ', grep { !$built{$_} && do { open my $h, '<', "$p/share/man/man8/$_.8"; <$h> !~ /^\.so man8\/cyrus-programs\.8$/ } } sort keys %built), '', 'what is not is on cyrus-programs(8)');
like(`man -M $p/share/man -P cat masssievec 2>/dev/null`, qr/NOT BUILT YET/, '... where man leads');
my $unexplained = join ' ', grep { `cat man/cyrus-programs.8` =~ /^\.BR? \Q@{[s{_}{_}gr]}\E(?: \(8\))?\n\?/m } sort keys %built;
is($unexplained, '', 'and each program is explained there');
is(system("$Daemon::build/cyrd -t -C etc/imapd.conf -M etc/cyrus.conf 2>$dest/err"), 0, 'the sample configuration is right');
is(do { open my $h, '<', "$dest/err"; local $/; <$h> }, "both files are fine\n", '... without a warning');
is(system('sh -n etc/cyrd.init && sh -n etc/install-deps && bash -n .ci/run'), 0, 'the scripts parse');
like(`etc/install-deps --list`, qr/libgnutls28-dev/, 'install-deps lists');
done_testing;
