#!/usr/bin/perl
# npm's imapflow: imapflow_walk.js. The module is installed into a cache below build/ when the test is run; the only test here that
# needs a registry, and skipped, with that note, where none is reached.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use File::Path qw(make_path);
use Interop;

die "node and npm are missing: etc/install-deps --test\n" unless which('node') && which('npm');
my $cache = "$Interop::top/build/npm";
make_path($cache);
unless (-e "$cache/node_modules/imapflow/package.json") {
    my ($st, $out) = run_cmd(['npm', 'install', '--no-audit', '--no-fund', '--no-save', '--prefix', $cache, 'imapflow@1'], timeout => 120);
    if ($st ne '0') {
        note_lines(substr $out, -600);
        skip_all('npm cannot install imapflow: no registry is reached');
    }
}
my $cyrd = Interop->new->start;
$cyrd->inner(['node', "$FindBin::Bin/imapflow_walk.js"], env => { NODE_PATH => "$cache/node_modules" });
$cyrd->ends_well;
done;
