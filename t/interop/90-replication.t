#!/usr/bin/perl
# A real Cyrus, the master, replicates to a cyrd (sync_walk.py); and the same commands to a real sync_server and to ours get the same answers
# (sync_compare.py).
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Interop;

my $port = free_port();
# Its daemons are its own.
my $none = bless { owner => 0, map { $_ => '' } qw(ca imap imaps lmtp lmtp_socket) }, 'Interop';
$none->inner(['python3', "$FindBin::Bin/$_.py"], env => { PORT => $port, B => $Interop::build }) for qw(sync_walk sync_compare);
done;
