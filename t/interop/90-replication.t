#!/usr/bin/perl
# A real Cyrus, the master, replicates to a cyrd (sync_walk.py).
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Interop;

my $port = free_port();
# Its daemons are its own.
my $none = bless { owner => 0, map { $_ => '' } qw(ca imap imaps lmtp lmtp_socket) }, 'Interop';
$none->inner(['python3', "$FindBin::Bin/sync_walk.py"], env => { PORT => $port, B => $Interop::build });
done;
