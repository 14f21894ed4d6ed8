#!/usr/bin/perl
# mbsync (isync): a mailbox tree synchronised both ways with a Maildir: messages octet for octet, flags, deletions, new folders.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use File::Path qw(make_path);
use Interop;
use Messages;

die "mbsync is missing: etc/install-deps --test\n" unless which('mbsync');
my $cyrd = Interop->new->start;
my $home = "$cyrd->{dir}/home";
make_path("$home/Mail");
spew("$home/mbsyncrc", <<"END");
IMAPAccount cyrd
Host localhost
Port $cyrd->{imap}
User alice
Pass $Interop::password
SSLType STARTTLS
CertificateFile $cyrd->{ca}
SystemCertificates no

IMAPStore far
Account cyrd

MaildirStore near
Path $home/Mail/
Inbox $home/Mail/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Both
Remove Both
Expunge Both
SyncState *
END
sub sync_it {
    my ($what) = @_;
    my ($st, $out) = run_cmd(['mbsync', '-c', "$home/mbsyncrc", '-a'], timeout => 120, env => { HOME => $home });
    ok($st eq '0', "mbsync: $what") or note_lines(substr $out, -2000);
    return $out;
}
# {Message-ID number => [file, octets with CRLF, flag letters]}
sub maildir {
    my ($box) = @_;
    my %m;
    for my $f (glob("$home/Mail/$box/cur/* $home/Mail/$box/new/*")) {
        my $t = slurp($f);
        $t =~ s/(?<!\r)\n/\r\n/g;
        $t =~ s/^X-TUID: \S+\r\n//m;
        my ($n) = $t =~ /^Message-ID: <(?:interop-)?([\w-]+)\@/mi;
        $m{$n} = [$f, $t, $f =~ /:2,(\w*)$/ ? $1 : ''];
    }
    return \%m;
}
sub uid_of { my ($c, $n) = @_; return ($c->search("HEADER Message-ID <interop-$n\@"))[0] }

# isync leaves out what has no empty line after its header.
my @n = grep { (message($_))[2] ne 'no empty line' } full ? 0 .. 199 : 0 .. 39;
my $c = $cyrd->client('alice');
my %far;
for my $n (@n) {
    my (undef, $octets) = message($n);
    # isync keeps messages with LF: octets that hold no lone CR or LF survive that exactly.
    $far{$n} = $octets;
    $c->append($n % 4 == 1 ? 'Archive' : 'INBOX', $octets, $n % 5 == 0 ? '\Seen' : $n % 5 == 1 ? '\Flagged \Answered' : '');
}
sync_it('everything from the server');
my ($in, $ar) = (maildir('INBOX'), maildir('Archive'));
is(scalar(keys %$in) + scalar(keys %$ar), scalar(@n), 'all messages are in the Maildir');
my @differ = grep { my $m = $in->{$_} // $ar->{$_}; !$m || $m->[1] ne $far{$_} } @n;
is("@differ", '', 'each octet for octet');
note_lines(join "\n", map { my $m = $in->{$_} // $ar->{$_}; "$_: " . ($m ? first_difference($far{$_}, $m->[1]) : 'missing') } @differ) if @differ;
ok($in->{0}[2] =~ /S/ && $ar->{1}[2] =~ /F/ && $ar->{1}[2] =~ /R/ && $in->{2}[2] eq '', 'their flags too');

# Changes on both sides: flags, deletions, additions, folders.
$c->select('INBOX');
$c->do('UID STORE ' . uid_of($c, 2) . ' +FLAGS (\Flagged)');
$c->do('UID STORE ' . uid_of($c, 3) . ' +FLAGS (\Deleted)');
$c->do('EXPUNGE');
$c->do('CREATE Projects/Cyrd');
$c->append('Projects/Cyrd', "Message-ID: <in-subfolder\@example.org>\nSubject: s\n\nfar\n");
my $four = $in->{4}[0];
(my $seen = $four) =~ s{/new/}{/cur/};
$seen =~ s/(:2,\w*)?$/:2,FS/;
rename $four, $seen or die "$four: $!";
unlink $in->{6}[0] or die;
make_path("$home/Mail/Local/$_") for qw(cur new tmp);
my $local = "Message-ID: <local\@example.org>\nFrom: x\@example.org\nSubject: from the Maildir\n\n" . "gr\xc3\xbcn\n.\n..\nlast line\n";
spew("$home/Mail/INBOX/new/1.local", $local);
spew("$home/Mail/Local/cur/2.local:2,S", $local =~ s/local\@/local-2\@/r);
sync_it('changes on both sides');
$c->do('NOOP');
my $now = $c->fetch;
my %by = map { my ($n) = $now->{$_}{body} =~ /^Message-ID: <(?:interop-)?([\w-]+)\@/mi; $n => $now->{$_} } keys %$now;
($in) = maildir('INBOX');
ok($in->{2}[2] =~ /F/, 'a flag set on the server arrived');
ok(!$in->{3}, 'a message expunged on the server is gone');
is($by{4} && $by{4}{flags}, '\Flagged \Seen', 'flags set in the Maildir arrived on the server');
ok(!$by{6}, 'a message deleted in the Maildir is expunged on the server');
is($by{local} && $by{local}{body} =~ s/^X-TUID: \S+\r\n//mr, $local =~ s/\n/\r\n/gr, 'a new message from the Maildir, octet for octet');
my $sub = maildir('Projects/Cyrd');
ok($sub->{'in-subfolder'}, 'a new folder and its message from the server');
my @list = $c->do('LIST "" Local');
ok("@list" =~ m{"/" "?Local"?\r}, 'a new folder from the Maildir');
is($c->select('Local'), 1, 'with its message');
my $l = $c->fetch;
is((values %$l)[0]{flags}, '\Seen', 'and its flag');

sync_it('what is left');
$c->select('INBOX');
is(scalar(keys %{ $c->fetch('1:*', 'flags') }), scalar(keys %{ maildir('INBOX') }), 'both sides have the same number of messages');
# Everything that could change by another run: names in the Maildir hold the flags, modseqs count changes on the server.
sub state_of_all { return join "\n", (sort map { glob "$home/Mail/$_/cur/* $home/Mail/$_/new/*" } qw(INBOX Archive Local Projects/Cyrd)),
    grep { /STATUS/ } map { $c->do("STATUS $_ (MESSAGES UIDNEXT HIGHESTMODSEQ)") } qw(INBOX Archive Local Projects/Cyrd) }
my $before = state_of_all();
sync_it('once more');
my $after = state_of_all();
ok($after eq $before, 'and that changes nothing on either side') or note_lines(first_difference($before, $after));
$c->logout;
$cyrd->ends_well;
done;
