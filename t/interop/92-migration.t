#!/usr/bin/perl
# A real Cyrus site moves to a cyrd and back as cyrd-migration(7) says, with mail arriving and flags changing all the time, and mbsync, which notices nothing
# (migrate_walk.py). MIGRATION=full: 20 users, 20,000 messages.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Interop;

die "mbsync is missing: etc/install-deps --test\n" unless which('mbsync');
my $full = ($ENV{MIGRATION} // '') eq 'full';
# Its daemons are its own.
my $none = bless { owner => 0, map { $_ => '' } qw(ca imap imaps lmtp lmtp_socket) }, 'Interop';
$none->inner(['python3', "$FindBin::Bin/migrate_walk.py"], timeout => $full ? 3500 : 290,
    env => { PORT => free_port(), B => $Interop::build, $full ? (USERS => 20, MESSAGES => 20000) : () });
done;
