#!/usr/bin/perl
# The sample configurations below etc/: they are right, nothing in them is without effect, and what they say holds (they start, on other ports).
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../interop";
use Interop;
use JSON qw(decode_json);
use File::Path qw(make_path);
use File::Temp qw(tempdir);

my $etc = "$Interop::top/etc";
my $dir = tempdir('cyrd-samplesXXXXXX', DIR => $ENV{TMPDIR} || '/tmp', CLEANUP => 1);
my @pairs = ([ "$etc/imapd.conf", "$etc/cyrus.conf" ], map { [ $_, s/imapd\.conf$/cyrus.conf/r ] } sort glob "$etc/samples/*.imapd.conf");
is(scalar(@pairs), 5, 'a plain one, a small host, a large host, a master, a replica');
my $cert = "$dir/cert.pem";
run_cmd([qw(openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=localhost -keyout), "$dir/key.pem", '-out', $cert]);
for (@pairs) {
    my ($imapd, $cyrus) = @$_;
    my $name = $imapd =~ s{^\Q$etc\E/}{}r;
    # Certificates are the one thing that is not there; everything else is taken as it stands.
    my $text = slurp($imapd);
    $text =~ s{^(tls_server_cert): .*}{$1: $cert}m;
    $text =~ s{^(tls_server_key): .*}{$1: $dir/key.pem}m;
    $text =~ s{^(tls_server_cert_dir): .*}{$1: $dir}m;
    my $conf = spew("$dir/imapd.conf", $text);
    my ($st, $out) = run_cmd(["$Interop::build/cyrd", '-t', '-C', $conf, '-M', $cyrus]);
    is("$st $out", "0 both files are fine\n", "$name and its cyrus.conf: cyrd -t has nothing to say");
    ($st, $out) = run_cmd(["$Interop::build/cyrctl", '--json', 'config', 'check', $conf, $cyrus], err => 1);
    my @rows = map { decode_json($_) } split /\n/, $out;
    is($st, 0, '... nor has cyrctl config check');
    is(join(' ', map { "$_->{option}=$_->{state}" } grep { ($_->{kind} // '') eq 'option' && $_->{state} ne 'honoured' } @rows), '', '... every option has its effect');
    is(join(' ', map { "$_->{entry}.$_->{option}=$_->{state}" } grep { ($_->{kind} // '') eq 'entry' && $_->{state} !~ /^(?:honoured|translated)$/ } @rows), '', '... every entry too');
    # Lines that are commented out are right too: those whose option is not set.
    my @more = grep { my ($o) = /^([^:]+):/; $text !~ /^\Q$o\E:/m } map { /^#([a-z][a-z0-9_-]*: \S.*)/ ? ($1) : () } split /\n/, $text;
    spew($conf, $text . join '', map { "$_\n" } @more);
    ($st, $out) = run_cmd(["$Interop::build/cyrctl", '--json', 'config', 'check', $conf, $cyrus], err => 1);
    is(join(' ', map { "$_->{option}=$_->{state}" } grep { ($_->{state} // '') =~ /unknown|wrong/ } map { decode_json($_) } split /\n/, $out), '', '... what is commented out (' . @more . ') is known');
    # It starts: below a directory of ours, on ports of ours.
    my $user = $> == 0 ? (grep { getpwnam $_ } qw(cyrus nobody))[0] : undef;
    my $home = "$dir/of-" . $name =~ s{/}{-}gr;
    make_path(map { "$home/$_" } qw(conf p socket));
    my $here = $text;
    my $n = 0;
    $here =~ s{^configdirectory: .*}{configdirectory: $home/conf}m;
    $here =~ s{^(partition-\w+): .*}{$n++; make_path("$home/p/$n"); "$1: $home/p/$n"}gme;
    $here =~ s{^syslog_.*\n}{}gm;
    $here =~ s{^metrics_listen: .*}{"metrics_listen: 127.0.0.1:" . free_port()}me;
    $here .= "cyrus_user: $user\n" if $user;
    my $services = slurp($cyrus);
    $services =~ s{listen="/[^"]*"}{listen="$home/socket/lmtp"}g;
    $services =~ s{listen="[^/"][^"]*"}{'listen="127.0.0.1:' . free_port() . '"'}ge;
    spew("$home/imapd.conf", $here);
    spew("$home/cyrus.conf", $services);
    chmod 0755, $dir;
    run_cmd(['chown', '-R', $user, $home, "$dir/key.pem"]) if $user;
    my @cyrd = ("$Interop::build/cyrd", '-C', "$home/imapd.conf", '-M', "$home/cyrus.conf");
    ($st, $out) = run_cmd([@cyrd, '-d', '-p', "$home/conf/pid", '-L', "$home/conf/out"], timeout => 40);
    is($st, 0, '... and cyrd starts with them') or note_lines($out . (slurp("$home/conf/out") // ''));
    my ($pid) = (slurp("$home/conf/pid") // '') =~ /(\d+)/;
    ($st, $out) = run_cmd(["$Interop::build/cyrctl", '-C', "$home/imapd.conf", '--json', 'status'], err => 1);
    my $listed = () = $out =~ /"kind":"service"/g;
    my $wanted = () = $services =~ /^\s+\w+\s+cmd=.*listen=/gm;
    is($listed - 1, $wanted, "... and serves its $wanted services");
    if ($pid) { kill 'TERM', $pid; ok(wait_for(sub { !kill 0, $pid }, 15), '... and ends') }
}
done;
