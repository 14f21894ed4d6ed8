#!/usr/bin/perl
# Shell completion of cyrctl, as make install puts it there: what it offers is what cyrctl has; bash and zsh, with their own machinery.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../interop";
use Interop;
use File::Path qw(make_path);
use Time::HiRes qw(sleep time);

my $bash = which('bash') or die "bash is missing\n";
my $zsh = which('zsh') or die "zsh is missing: etc/install-deps --test\n";
my $cyrd = Interop->new->start;
$cyrd->client('alice')->do($_) for 'CREATE Lists/blank', 'CREATE "Lists/a b"';
my $conf = "$cyrd->{dir}/imapd.conf";
my $bin = "$cyrd->{dir}/bin";
make_path($bin);
symlink "$Interop::build/cyrctl", "$bin/cyrctl" or die;
for my $shell (qw(bash zsh)) {
    my ($st, $out) = run_cmd(["$bin/cyrctl", '--completion', $shell]);
    ok($st eq '0' && length $out > 200, "there is a script for $shell");
    spew("$cyrd->{dir}/" . ($shell eq 'zsh' ? '_cyrctl' : 'cyrctl.bash'), $out);
    ($st) = run_cmd([$shell eq 'zsh' ? $zsh : $bash, '-n', "$cyrd->{dir}/" . ($shell eq 'zsh' ? '_cyrctl' : 'cyrctl.bash')]);
    is($st, 0, '... which parses');
}
is((run_cmd(["$bin/cyrctl", '--completion', 'csh']))[0], 2, 'and none for others');

# ---- what is offered ----
sub offered { my (@words) = @_; my ($st, $out) = run_cmd(["$bin/cyrctl", '--complete', '--', @words]); return map { s/\t.*//r } split /\n/, $out }
sub list { return join ' ', sort @_ }
my (undef, $help) = run_cmd(["$bin/cyrctl", '--help']);
my (%next, %flags);
for (split /\n/, $help) {
    /^  (\S.*?)(?: {2,})\S/ or next;
    my ($first, @rest) = split / (?=\[-)| /, $1 =~ s/\[-.*?\]//gr =~ s/ +/ /gr;
    $next{$first} = 1;
}
is(list(offered('')), list(keys %next), 'commands: those of --help');
is(list(offered('mailbox', '')), list(qw(list info create delete rename move specialuse)), 'second words');
is(list(offered('mailbox', 're')), 'rename', '... that begin so');
is(list(offered('me')), 'metadata metrics', 'first words that begin so');
my (undef, $create) = run_cmd(["$bin/cyrctl", 'mailbox', 'create', '--help']);
is(list(offered('mailbox', 'create', '-')), list('--json', '--help', map { /^  (-\w), (--\w+)/ ? ($1, $2) : () } split /\n/, $create), 'options: those of the command\'s --help');
is(list(offered('top', '--sort', '')), list(qw(rate in out idle age user)), 'values of an option');
is(list(offered('top', '--sort=', '')), '', '... of which this is not one');
is(list(offered('top', '--sort=ra')), '--sort=rate', 'behind =');
is(list(offered('config', 'check', '')), ':files', 'files');
is(list(offered('-C', '')), ':files', 'files of a global option');
is(list(offered('--so')), '--socket', 'global options');
is(list(offered('-C', $conf, 'sessions', 'kick', '')), '', 'sessions: none, and not our own');
is(list(offered('-C', $conf, 'mailbox', 'info', 'user/alice/L')), list('user/alice/Lists', 'user/alice/Lists/a b', 'user/alice/Lists/blank'), 'mailboxes');
is(list(offered('-C', $conf, 'mailbox', 'create', '-p', '')), "default second", 'partitions');
is(list(offered('-C', $conf, 'mailbox', 'create', '-p', 'default', 'user/alice/D')), 'user/alice/Drafts', 'an option and its value are no arguments');
is(list(offered('-C', $conf, 'acl', 'set', 'user/alice', 'a')), list(qw(alice anonymous anyone)), 'identifiers');
is(list(offered('-C', $conf, 'user', 'info', '')), 'alice', 'users');
is(list(offered('--json', 'config', 'show', 'tls_server_ce')), list(qw(tls_server_cert tls_server_cert_dir)), 'options of imapd.conf');
is(list(offered('check', '--', '-')), '', 'behind -- there are no options');
is(list(offered('frob', '')), '', 'nothing for what is no command');
is(list(offered()), '', 'nothing for nothing');
my $t = time;
is(list(offered('-C', '/nowhere', 'mailbox', 'info', '')), '', 'no configuration: nothing');
is(list(offered('-C', $conf, '-S', '/nowhere', 'mailbox', 'info', '')), '', 'no daemon: nothing, the store is not opened');
ok(time - $t < 2, '... at once');

# ---- bash ----
sub in_bash {
    my ($line) = @_;
    # As readline does it: words split at blanks and at =, the last one being completed.
    my @words = grep { defined } split /(=)|\s+/, $line, -1;
    my $array = join ' ', map { s/'/'\\''/gr =~ s/.*/'$&'/sr } @words;
    my $program = "PATH=$bin:\$PATH; source $cyrd->{dir}/cyrctl.bash; COMP_WORDS=($array); COMP_CWORD=\$((\${#COMP_WORDS[@]}-1)); compopt() { :; }; _cyrctl; printf '%s\\n' \"\${COMPREPLY[@]}\"";
    my ($st, $out) = run_cmd([$bash, '--norc', '-c', $program], dir => $bin);
    return list(split /\n/, $out);
}
is(in_bash('cyrctl quota '), list(qw(list set delete fix)), 'bash: second words');
is(in_bash('cyrctl st'), 'status', 'bash: first words');
is(in_bash("cyrctl -C $conf mailbox info user/alice/Lists/"), list('user/alice/Lists/a\ b', 'user/alice/Lists/blank'), 'bash: mailboxes, a blank is quoted');
is(in_bash('cyrctl top --sort=i'), list(qw(in idle)), 'bash: behind =');
is(in_bash('cyrctl top --sort='), list(qw(rate in out idle age user)), 'bash: right behind =');
is(in_bash('cyrctl top --sort=rate -'), list(qw(-c --count -i --interval -n --lines -s --sort -u --users --json --help)), 'bash: after a word with =');
is(in_bash('cyrctl config check cyr'), 'cyrctl', 'bash: files');
# At a prompt.
sub at_prompt {
    my ($shell, $script, $done) = @_;
    my $type = "$cyrd->{dir}/typescript";
    unlink $type;
    my $pid = open(my $in, '|-', "script -qefc '$shell' $type >/dev/null 2>&1") // die;
    my $old = select $in;
    $| = 1;
    select $old;
    for (@$script) { print $in $_; sleep 1 }
    wait_for(sub { (slurp($type) // '') =~ $done }, 10);
    close $in;
    return slurp($type) // '';
}
$ENV{TERM} = 'xterm';
my $typed = at_prompt("$bash --norc --noprofile", [ "PATH=$bin:\$PATH; source $cyrd->{dir}/cyrctl.bash\n", "cyrctl mailbox spec\t--help\n", "exit\n" ], qr/usage: cyrctl/);
ok($typed =~ /usage: cyrctl.*\n\s*\n\s*mailbox specialuse mailbox/, 'bash: a TAB at the prompt completes') or note_lines($typed);

# ---- zsh: with its own completion system, at a prompt; what it was offered goes to a file ----
sub in_zsh {
    my ($line) = @_;
    my $out = "$cyrd->{dir}/zsh.out";
    unlink $out, "$out.ready";
    # What is typed at the prompt of a zsh behind a pseudo-terminal.
    spew("$cyrd->{dir}/zshrc", "PROMPT=; PATH=$bin:\$PATH; fpath=($cyrd->{dir} \$fpath); autoload -Uz compinit; compinit -u -d $cyrd->{dir}/zdump\n"
        . "compadd() { local -a hits; builtin compadd -O hits \"\$@\"; print -rl -- \$hits >>$out; builtin compadd \"\$@\" }\nprint ready >$out.ready\n");
    spew("$cyrd->{dir}/zdriver", "zmodload zsh/zpty\nzpty z $zsh -f -i\nzpty -w z 'source $cyrd->{dir}/zshrc'\n"
        . "for i in {1..100}; do [[ -e $out.ready ]] && break; sleep 0.1; done\nzpty -w -n z \$'\\025'" . quote_zsh($line) . "\$'\\t'\n"
        . "for i in {1..50}; do [[ -s $out ]] && break; sleep 0.1; done; sleep 0.2; zpty -d z\n");
    my ($st, $said) = run_cmd([$zsh, '-f', "$cyrd->{dir}/zdriver"], timeout => 40, dir => $bin);
    note_lines($said) if $st ne '0';
    my %seen;
    return list(grep { length && !$seen{$_}++ } split /\n/, slurp($out) // '');
}
sub quote_zsh { my ($s) = @_; return "'" . ($s =~ s/'/'\\''/gr) . "'" }
is(in_zsh('cyrctl quota '), list(qw(list set delete fix)), 'zsh: second words');
is(in_zsh('cyrctl me'), list(qw(metadata metrics)), 'zsh: first words');
is(in_zsh("cyrctl -C $conf mailbox info user/alice/Lists/"), list('user/alice/Lists/a b', 'user/alice/Lists/blank'), 'zsh: mailboxes');
is(in_zsh('cyrctl top --sort=i'), list('--sort=in', '--sort=idle'), 'zsh: behind =');
is(in_zsh('cyrctl config check cyr'), 'cyrctl', 'zsh: files');
$cyrd->ends_well;
done;
