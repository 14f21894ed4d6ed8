#!/usr/bin/perl
# A real Cyrus, the master, replicates to a cyrd (sync_walk.py).
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Interop;

my $port = free_port();
Interop->inner(['python3', "$FindBin::Bin/sync_walk.py", $port], env => { B => $Interop::build });
done;
