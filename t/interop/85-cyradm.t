#!/usr/bin/perl
# cyradm, Cyrus's administration shell: users' mailboxes are made, listed, given rights to, renamed, moved to another partition and deleted.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Interop;

die "cyradm is missing: etc/install-deps --test\n" unless which('cyradm');
my $cyrd = Interop->new->start;
sub cyradm {
    my ($user, @commands) = @_;
    return run_cmd(['cyradm', '--norc', '--user', $user, '--auth', 'PLAIN', '--cafile', $cyrd->{ca}, '--password', $Interop::password, '--port', $cyrd->{imap}, 'localhost'],
        in => join('', map { "$_\n" } @commands, 'quit'), timeout => 30);
}
my ($st, $out) = cyradm('admin', 'createmailbox user/carol', 'cm user/carol/Lists', 'lm user/carol*');
ok($out =~ m{user/carol \(\\HasChildren\)} && $out =~ m{user/carol/Lists \(\\HasNoChildren\)}, 'createmailbox, listmailbox') or note_lines($out);
($st, $out) = cyradm('admin', 'setaclmailbox user/carol bob read', 'sam user/carol alice lrs', 'lam user/carol', 'dam user/carol alice', 'lam user/carol');
ok($out =~ /bob lrs$/m && $out =~ /carol lrswipkxtecda/, 'setaclmailbox, listaclmailbox') or note_lines($out);
is(scalar(() = $out =~ /alice lrs/g), 1, 'deleteaclmailbox');
($st, $out) = cyradm('admin', 'renamemailbox user/carol/Lists user/carol/Groups', 'lm user/carol/*');
ok($out =~ m{user/carol/Groups} && $out !~ m{user/carol/Lists}, 'renamemailbox') or note_lines($out);
($st, $out) = cyradm('admin', 'renamemailbox user/carol user/carol second', 'info user/carol', 'info user/carol/Groups', 'renm user/carol user/carol second',
                     'renm user/carol user/carol nowhere', 'renm user/carol user/carol default', 'info user/carol');
is(scalar(() = $out =~ /^\s+partition: second$/mg), 2, 'renamemailbox to another partition takes what is below along') or note_lines($out);
ok((() = $out =~ /renamemailbox: \[/g) == 2 && $out =~ /no such partition/ && $out =~ /^\s+partition: default$/m, 'where it is already, nowhere, and back') or note_lines($out);
# As in Cyrus an administrator who deletes first gives himself the right to.
($st, $out) = cyradm('admin', 'dm user/carol/Groups', 'lm user/carol/*');
ok($out =~ /Permission denied/ && $out =~ m{user/carol/Groups}, 'deletemailbox without the right is refused') or note_lines($out);
($st, $out) = cyradm('admin', 'sam user/carol/Groups admin all', 'dm user/carol/Groups', 'sam user/carol admin x', 'dm user/carol', 'lm');
ok($out !~ m{(?<!DELETED/)user/carol} && $out =~ m{DELETED/user/carol/Groups/}, 'deletemailbox: what was deleted waits below DELETED') or note_lines($out);
($st, $out) = cyradm('admin', 'cm user/carol', 'cm user/carol', 'cm user/a%b');
is(scalar(() = $out =~ /createmailbox: \[/g), 2, 'what is there, and a bad name, are refused') or note_lines($out);
($st, $out) = cyradm('admin', 'cm user/dora', 'sam user/dora admin lrswa', 'setmetadata user/dora expire 30', 'mboxcfg user/dora comment hello', 'info user/dora', 'setinfo motd "Tea at five"', 'setinfo comment "our server"', 'info');
ok($out =~ /\{user\/dora\}:/m && $out =~ /^\s+expire: 30$/m && $out =~ /^\s+comment: hello$/m && $out =~ /^\s+partition: default$/m,
   'setmetadata, mboxconfig, info of a mailbox') or note_lines($out);
ok($out =~ /\{Server Wide\}/m && $out =~ /^\s+motd: Tea at five$/m && $out =~ /^\s+comment: our server$/m, 'setinfo, info of the server') or note_lines($out);
($st, $out) = cyradm('admin', 'setmetadata user/dora expire soon', 'setinfo motd none', 'info');
ok($out =~ /cannot have this value/ && $out !~ /motd:/, 'a value that an entry cannot have is refused; none removes') or note_lines($out);
# What cyradm does with special uses, and SUBSCRIBED, depends on a CAPABILITY that it asks for before it logs in.
($st, $out) = cyradm('admin', 'cm --specialuse "\\\\Important" user/dora/Urgent', 'cm --specialuse "\\\\Junk" --partition second user/dora/Marked', 'info user/dora/Marked',
                     'cm --specialuse "\\\\Important" user/dora/Other', 'lm --specialuse user/dora*');
ok($out =~ m{user/dora/Urgent \(.*\\Important} && $out =~ /^\s+partition: second$/m, 'createmailbox --specialuse') or note_lines($out);
ok($out =~ /createmailbox: \[USEATTR\]/ && $out !~ m{user/dora (?:\(|$)}m && $out !~ m{user/dora/Other}, 'once; listmailbox --specialuse lists those alone') or note_lines($out);
($st, $out) = cyradm('alice', 'subscribe Lists', 'cm Lists', 'subscribe Lists', 'lm -s', 'unsubscribe Lists', 'lm -s');
is(scalar(() = $out =~ /\bLists\b/g), 1, 'subscribe, unsubscribe, listmailbox -s') or note_lines($out);
($st, $out) = cyradm('admin', 'version');
ok($out =~ /name\s*: Cyrd$/m, 'version') or note_lines($out);
($st, $out) = cyradm('bob', 'cm "Other Users/carol/x"', 'cm Reports', 'lm');
ok($out =~ /createmailbox: \[NO/ && $out =~ /Reports \(/, 'one who is no administrator makes mailboxes of his own, and none elsewhere') or note_lines($out);
$cyrd->ends_well;
done;
