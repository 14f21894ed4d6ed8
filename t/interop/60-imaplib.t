#!/usr/bin/perl
# Python's imaplib: imaplib_walk.py.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Interop;
my $cyrd = Interop->new->start;
$cyrd->inner(['python3', "$FindBin::Bin/imaplib_walk.py"]);
$cyrd->ends_well;
done;
