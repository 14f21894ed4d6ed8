#!/usr/bin/perl
# SCRAM does not tell who exists: somebody without a password gets the challenge that others get, with the same salt each time, and a wrong password is
# his answer; the log says which it was.
use strict;
use warnings;
use Digest::SHA qw(sha256 hmac_sha256);
use FindBin;
use lib $FindBin::Bin;
use Daemon;
use MIME::Base64;
use Test::More;

my $imap = Daemon::port();
my $d = Daemon->new(imap => "allowplaintext: yes\nsasl_pwcheck_method: auxprop\nsasl_sasldb_path: \@DIR\@/conf/sasldb2\nsasl_mech_list: PLAIN SCRAM-SHA-256 CRAM-MD5\n"
    . "failedloginpause: 0\n", master => "SERVICES {\n imap cmd=\"imapd\" listen=\"127.0.0.1:$imap\"\n}\n");
my $set = (grep { -x } map { "$_/saslpasswd2" } '/usr/sbin', '/usr/bin')[0] or plan skip_all => 'no saslpasswd2';
open my $p, '|-', "$set -p -f $d->{dir}/conf/sasldb2 -u localhost ann" or die;
print $p "secret\n";
close $p or die;
$d->own;
chmod 0644, "$d->{dir}/conf/sasldb2";
ok($d->start, 'starts') or diag $d->slurp('log');

# Returns the server's first message, the answer to the last.
sub scram {
    my ($user, $password, $spoil) = @_;
    my $s = Daemon::tcp($imap) or die;
    my $first = "n=$user,r=abcdefghijklmnop";
    <$s>;
    print $s 'a AUTHENTICATE SCRAM-SHA-256 ' . encode_base64("n,,$first", '') . "\r\n";
    my $line = <$s> // '';
    my ($challenge) = $line =~ /^\+ (\S+)\r\n/ or return ('', $line);
    $challenge = decode_base64($challenge);
    my ($nonce, $salt, $i) = $challenge =~ /^r=([^,]+),s=([^,]+),i=(\d+)$/ or return ($challenge, '');
    my $final = 'c=biws,r=' . ($spoil && $spoil eq 'nonce' ? 'x' : '') . $nonce;
    my $u = my $salted = hmac_sha256(decode_base64($salt) . "\0\0\0\1", $password);
    $salted ^= $u = hmac_sha256($u, $password) for 2 .. $i;
    my $key = hmac_sha256('Client Key', $salted);
    my $proof = $key ^ hmac_sha256("$first,$challenge,$final", sha256($key));
    print $s encode_base64($spoil && $spoil eq 'proof' ? $final : "$final,p=" . encode_base64($proof, ''), '') . "\r\n";
    my $answer = <$s> // '';
    if ($answer =~ /^\+ /) { print $s "\r\n"; $answer = <$s> // '' }
    $answer =~ s/\[CAPABILITY[^]]*\]/[CAPABILITY]/;
    return ($challenge, $answer);
}
sub shape { my ($c) = @_; $c =~ s/[^,=]/x/g; return $c }
sub salt { my ($c) = @_; return $c =~ /,s=([^,]+)/ ? $1 : '' }

like((scram('ann', 'secret'))[1], qr/^a OK /, 'the right password');
my ($known, $wrong) = scram('ann', 'guess');
like($wrong, qr/^a NO \[AUTHENTICATIONFAILED\]/, 'a wrong one');
my ($nobody, $answer) = scram('bob', 'guess');
is(shape($nobody), shape($known), 'somebody who does not exist gets a challenge of the same shape');
is(($nobody =~ /(,i=\d+)$/)[0], ($known =~ /(,i=\d+)$/)[0], '... as many rounds');
is($answer, $wrong, '... and the same answer');
is(salt((scram('bob', 'guess'))[0]), salt($nobody), '... the same salt each time');
is(salt((scram('ann', 'guess'))[0]), salt($known), '... as somebody who does');
isnt(salt((scram('eve', 'guess'))[0]), salt($nobody), '... and others have others');
for my $spoil ('nonce', 'proof') {
    is((scram('bob', 'guess', $spoil))[1], (scram('ann', 'guess', $spoil))[1], "the same answer to a last message without the right $spoil");
}
is((scram('bob', ''))[1], (scram('ann', ''))[1], 'an empty password');
like($d->slurp('log'), qr/imap\.badlogin .* mech=SCRAM-SHA-256 code=auth reason="user not found: bob"/, 'the log tells of it') or diag $d->slurp('log');

# Passwords in clear: as ever.
sub ask { my ($command) = @_; my $s = Daemon::tcp($imap); <$s>; print $s "a $command\r\n"; my $l = <$s>; $l =~ s/\[CAPABILITY[^]]*\]/[CAPABILITY]/; return $l }
like(ask('LOGIN ann secret'), qr/^a OK/, 'LOGIN');
is(ask('LOGIN bob secret'), ask('LOGIN ann guess'), 'LOGIN of somebody who does not exist');
is(ask('AUTHENTICATE PLAIN ' . encode_base64("\0bob\0secret", '')), ask('AUTHENTICATE PLAIN ' . encode_base64("\0ann\0guess", '')), 'PLAIN');
like(ask('AUTHENTICATE PLAIN ' . encode_base64("\0ann\0secret", '')), qr/^a OK/, 'PLAIN with the right password');
$d->stop;
is($d->{status}, 0, 'stops');
done_testing();
