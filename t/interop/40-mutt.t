#!/usr/bin/perl
# mutt, under a terminal of its own: browse over IMAPS and STARTTLS, flag, copy, save, delete, limit by server-side search, compose with Fcc.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use File::Path qw(make_path);
use Interop;
use Messages;

die "mutt is missing: etc/install-deps --test\n" unless which('mutt');
die "script is missing: apt-get install bsdutils\n" unless which('script');
my $cyrd = Interop->new->start;
my $home = "$cyrd->{dir}/home";
make_path($home);
spew("$home/sendmail", "#!/bin/sh\ncat >$home/sent\n", 0755);
my $c = $cyrd->client('alice');
$c->append('INBOX', "Message-ID: <m$_\@example.org>\nFrom: Person $_ <p$_\@example.org>\nTo: alice\@example.org\nDate: Tue, $_ Apr 2025 12:00:00 +0000\nSubject: message $_\nContent-Type: text/plain; charset=utf-8\n\nbody $_ needle$_\n") for 1 .. 9;
(undef, my $nested) = message(15);
$c->append('INBOX', $nested);

sub muttrc {
    my ($url) = @_;
    return spew("$home/muttrc", <<"END");
set folder="$url"
set spoolfile="$url/INBOX"
set record="$url/Sent"
set postponed="$url/Drafts"
set imap_user=alice
set imap_pass="$Interop::password"
set certificate_file="$cyrd->{ca}"
set ssl_starttls=yes
set ssl_force_tls=yes
set header_cache=""
set sleep_time=0
set move=no
set delete=yes
set confirmappend=no
set confirmcreate=no
set mark_old=no
set wait_key=no
set quit=yes
set sendmail="$home/sendmail"
set resolve=no
set use_from=yes
set from=alice\@example.org
set hostname=example.org
set editor=true
set sort=mailbox-order
END
}
# Keys pushed at start, until mutt ends.
sub mutt {
    my ($what, $keys, @more) = @_;
    my ($st, $out) = run_cmd(['script', '-qefc', join(' ', 'stty rows 40 cols 120; mutt -n -F', "$home/muttrc", @more, '-e', "'push \"$keys\"'"), "$home/typescript"],
        timeout => 40, env => { HOME => $home, TERM => 'xterm', LC_ALL => 'C.UTF-8' });
    ok($st eq '0', "mutt: $what") or note_lines(substr(slurp("$home/typescript") =~ s/\e\[[\d;?]*[a-zA-Z]|\e[()][A-Z0-9]//gr, -1500));
    return slurp("$home/typescript");
}

muttrc("imaps://localhost:$cyrd->{imaps}");
my $screen = mutt('IMAPS: opens INBOX and leaves', '<quit>');
ok($screen =~ /message 1/ && $screen =~ /message 9/, 'its index shows the messages');
mutt('flag, delete, save, copy', '<first-entry><flag-message><next-entry><delete-message><next-entry><save-message>=Archive<enter><next-entry><copy-message>=Archive<enter><sync-mailbox><quit>');
$c->select('INBOX');
my $in = $c->fetch;
my %subject = map { $in->{$_}{body} =~ /^Subject: (.*)\r/m ? ($1 => $in->{$_}{flags}) : () } keys %$in;
like_flag('message 1', qr/\\Flagged/, 'the first is flagged');
ok(!exists $subject{'message 2'}, 'the second is gone');
my $n_in = scalar keys %$in;
is($n_in, 8, 'and the one that was saved to Archive');
$c->select('Archive');
my $ar = $c->fetch;
is(scalar(keys %$ar), 2, 'Archive has the saved and the copied message');
sub like_flag { my ($s, $re, $name) = @_; ok(defined $subject{$s} && $subject{$s} =~ $re, $name) or note_lines(join "\n", map { "$_: $subject{$_}" } sort keys %subject) }

# =b is searched by the server (imap full search), then all that match are tagged and marked.
mutt('search of bodies by the server, tag, mark', '<tag-pattern>=b needle7<enter><tag-prefix><set-flag>!<sync-mailbox><quit>');
$c->select('INBOX');
is(scalar($c->search('FLAGGED BODY needle7')), 1, 'the one with the word is flagged');
mutt('a nest of multiparts, whole and one part of it', "<last-entry><pipe-message>cat>$home/whole<enter><view-attachments><last-entry><pipe-entry>cat>$home/part<enter><exit><quit>");
my $whole = (slurp("$home/whole") // '') =~ s/(?<!\r)\n/\r\n/gr;
ok($whole eq $nested, 'the message is what was appended') or note_lines(first_difference($nested, $whole));
ok((slurp("$home/part") // '') =~ /^<p>\d+<\/p>/m, 'the part is its text');

muttrc("imap://localhost:$cyrd->{imap}");
mutt('STARTTLS: browse folders', '<change-folder>=Archive<enter><first-entry><toggle-new><sync-mailbox><quit>');
$c->select('Archive');
ok((grep { $_->{flags} !~ /\\Seen/ } values %{ $c->fetch('1:*', 'flags') }) >= 1, 'a message is new again');
mutt('copy to a mailbox that is not there', '<last-entry><copy-message>=Made/by-mutt<enter><quit>');
is($c->select('Made/by-mutt'), 1, 'which is made');

# Compose: what was sent is filed by Fcc, octet for octet what the MTA got but for the headers that Fcc adds.
spew("$home/body", "Text\n.\n..\nGr\xc3\xbc\xc3\x9fe\n" . ('l' x 2000) . "\n");
my ($st, $out) = run_cmd(['mutt', '-n', '-F', "$home/muttrc", '-s', 'filed', '-a', $cyrd->{ca}, '--', 'bob@example.org'],
    in => slurp("$home/body"), timeout => 40, env => { HOME => $home, TERM => 'xterm', LC_ALL => 'C.UTF-8' });
ok($st eq '0', 'mutt sends and files') or note_lines($out);
is($c->select('Sent'), 1, 'Sent has it');
my ($filed) = values %{ $c->fetch };
my $mta = slurp("$home/sent") // '';
$mta =~ s/(?<!\r)\n/\r\n/g;
my ($fb, $mb) = map { s/.*?\r\n\r\n//sr } $filed->{body}, $mta;
ok($fb eq $mb && length $mb > 2000, 'its body is what was sent') or note_lines(first_difference($fb, $mb));
is($filed->{flags}, '\Seen', 'it is seen');
$c->logout;
$cyrd->ends_well;
done;
