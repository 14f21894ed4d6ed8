#!/usr/bin/perl
# SEARCH on odd messages finds what Python's email package finds: search_corpus.py.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Interop;
my $corpus = $ENV{CORPUS} || "$FindBin::Bin/../../../shared/corpus";
Interop::skip_all("no messages in $corpus (CORPUS=)") unless -d $corpus;
my $cyrd = Interop->new->start;
$cyrd->inner(['python3', "$FindBin::Bin/search_corpus.py", $corpus]);
$cyrd->ends_well;
done;
