# Interop - what the tests with real clients and a real MTA share: a cyrd with TLS, accounts and mailboxes made at first use, in a
# directory of its own and on loopback ports that are free; TAP; running programs with a time limit; a plain IMAP client as witness.
#
#   FULL=1   the long form (`make accept`); otherwise the short one
#   PORTS=n  take ports from n on (default: from 26000 + something of the process id)
#   BUILD=d  test the cyrd in d (default build)
#   KEEP=1   leave the scratch directory
package Interop;
use strict;
use warnings;
use Cwd qw(abs_path);
use Exporter qw(import);
use File::Basename qw(dirname);
use File::Path qw(make_path);
use File::Temp qw(tempdir);
use IO::Socket::INET;
use POSIX qw(WNOHANG);
use Time::HiRes qw(sleep time);

our @EXPORT = qw(ok is note_lines skip_all skip done run_cmd wait_for free_port slurp spew which full first_difference);
our $top = abs_path(dirname(__FILE__) . '/../..');
our $build = $ENV{BUILD} ? abs_path($ENV{BUILD}) : "$top/build";
our $password = 'sesame-42';

$| = 1;
sub full { return $ENV{FULL} ? 1 : 0 }

# ---- TAP ---------------------------------------------------------------------------------------------------------------------

my ($tests, $bad) = (0, 0);

sub ok($$) {
    my ($ok, $name) = @_;
    $tests++;
    $bad++ unless $ok;
    print $ok ? '' : 'not ', "ok $tests - $name\n";
    return $ok;
}

sub is($$$) {
    my ($got, $want, $name) = @_;
    my $same = defined $got && defined $want ? $got eq $want : !defined $got && !defined $want;
    ok($same, $name);
    note_lines('got:  ' . printable($got) . "\nwant: " . printable($want)) unless $same;
    return $same;
}

sub printable { my ($s) = @_; return 'undef' unless defined $s; $s = substr($s, 0, 300) . '…' if length $s > 300; $s =~ s/([^\x20-\x7e])/sprintf '\\x%02x', ord $1/ge; return $s }
sub note_lines { my ($text) = @_; print map("#   $_\n", split /\r?\n/, $text // '') }
sub skip { my ($name, $why) = @_; $tests++; print "ok $tests - $name # SKIP $why\n" }
sub skip_all { my ($why) = @_; print "1..0 # SKIP $why\n"; exit 0 }
sub done { print "1..$tests\n"; exit($bad ? 1 : 0) }

sub first_difference {
    my ($a, $b) = @_;
    my $n = length $a < length $b ? length $a : length $b;
    my ($lo, $hi) = (0, $n);
    while ($lo < $hi) {
        my $mid = int(($lo + $hi + 1) / 2);
        if (substr($a, 0, $mid) eq substr($b, 0, $mid)) { $lo = $mid } else { $hi = $mid - 1 }
    }
    my $from = $lo > 30 ? $lo - 30 : 0;
    return sprintf "lengths %d and %d, they part at octet %d: \"%s\" and \"%s\"", length $a, length $b, $lo,
        printable(substr $a, $from, 80), printable(substr $b, $from, 80);
}

# ---- files, programs -----------------------------------------------------------------------------------------------------------

sub slurp { my ($path) = @_; open my $f, '<:raw', $path or return undef; local $/; my $t = <$f>; return $t // '' }
sub spew { my ($path, $text, $mode) = @_; open my $f, '>:raw', $path or die "$path: $!"; print $f $text; close $f or die "$path: $!"; chmod $mode, $path if $mode; return $path }

sub which {
    my ($name) = @_;
    for my $d (split(/:/, $ENV{PATH} // ''), qw(/usr/sbin /sbin /usr/lib/cyrus/bin)) { return "$d/$name" if -x "$d/$name" && !-d _ }
    return undef;
}

sub wait_for {
    my ($code, $seconds) = @_;
    my $end = time + ($seconds // 10);
    while (1) {
        my $r = $code->();
        return $r if $r;
        return 0 if time > $end;
        sleep 0.05;
    }
}

# run_cmd([cmd, args…], in => octets, timeout => seconds, env => {…}, dir => …): (exit status, output and errors together)
sub run_cmd {
    my ($cmd, %o) = @_;
    my $tmp = tempdir('interopXXXXXX', TMPDIR => 1, CLEANUP => 1);
    spew("$tmp/in", $o{in} // '');
    my $pid = fork // die "fork: $!";
    if ($pid == 0) {
        setpgrp 0, 0;
        open STDIN, '<', "$tmp/in";
        open STDOUT, '>', "$tmp/out";
        if ($o{err}) { open STDERR, '>', "$tmp/err" } else { open STDERR, '>&', \*STDOUT }
        $ENV{$_} = $o{env}{$_} for keys %{ $o{env} || {} };
        chdir $o{dir} if $o{dir};
        no warnings 'exec';
        exec @$cmd;
        print STDERR "$cmd->[0]: $!\n";
        POSIX::_exit(127);
    }
    my $end = time + ($o{timeout} // 60);
    while (waitpid($pid, WNOHANG) == 0) {
        if (time > $end) { kill 'KILL', -$pid; waitpid $pid, 0; return ('timeout', slurp("$tmp/out")) }
        sleep 0.01;
    }
    return ($? & 127 ? 'signal ' . ($? & 127) : $? >> 8, slurp("$tmp/out"), $o{err} ? slurp("$tmp/err") : ());
}

# A program in another language whose lines "ok what" and "not ok what" are tests of ours; it must end with status 0.
sub inner {
    my ($self, $cmd, %o) = @_;
    my ($st, $out) = run_cmd($cmd, timeout => 300, %o, env => { %{ $o{env} || {} }, CA => $self->{ca}, PASSWORD => $password,
        map { uc $_ => $self->{$_} } qw(imap imaps lmtp lmtp_socket) });
    my $n = 0;
    for my $l (split /\r?\n/, $out) {
        if ($l =~ /^(not )?ok (?:\d+ - )?(.*)/) { ok(!$1, $2); $n++ } else { print "# $l\n" }
    }
    ok($st eq '0' && $n > 0, "$cmd->[-1] ran to its end" =~ s{\S*/}{}r);
}

my $next_port = $ENV{PORTS} || 26000 + $$ % 900;
sub free_port {
    for (1 .. 2000) {
        my $p = $next_port++;
        $next_port = 26000 if $next_port > 64000;
        my $s = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $p, Listen => 1, ReuseAddr => 1) or next;
        close $s;
        return $p;
    }
    die "no free port";
}

# ---- the daemon ----------------------------------------------------------------------------------------------------------------

# new Interop(users => [names], imap => "lines of imapd.conf", services => "lines of SERVICES")
sub new {
    my ($class, %o) = @_;
    my $dir = tempdir('cyrd-interopXXXXXX', DIR => $ENV{TMPDIR} || '/tmp', CLEANUP => !$ENV{KEEP});
    my $self = bless { dir => $dir, owner => $$, users => $o{users} // [qw(admin alice bob)] }, $class;
    chmod 0755, $dir;
    make_path(map { "$dir/$_" } qw(conf conf/log spool second tls socket));
    $self->{$_} = free_port() for qw(imap imaps lmtp);
    $self->{lmtp_socket} = "$dir/socket/lmtp";
    $self->{user} = (grep { getpwnam $_ } qw(cyrus nobody))[0] if $> == 0;
    $self->certificates;
    spew("$dir/imapd.conf", join('', "configdirectory: $dir/conf\npartition-default: $dir/spool\npartition-second: $dir/second\ndefaultpartition: default\n",
        "servername: localhost\nadmins: admin\naltnamespace: yes\nunixhierarchysep: yes\n",
        ($self->{user} ? "cyrus_user: $self->{user}\n" : ''),
        "sasl_pwcheck_method: auxprop\nsasl_auxprop_plugin: sasldb\nsasl_sasldb_path: $dir/conf/sasldb2\n",
        "sasl_mech_list: PLAIN LOGIN SCRAM-SHA-1 SCRAM-SHA-256\n",
        "tls_server_cert: $dir/tls/cert.pem\ntls_server_key: $dir/tls/key.pem\nmaster_bind_errors_fatal: yes\n",
        "autocreate_quota: 0\nautocreate_post: yes\nautocreate_inbox_folders: Drafts|Sent|Trash|Junk|Archive\n",
        "autocreate_subscribe_folders: Drafts|Sent|Trash|Junk|Archive\n",
        "xlist-drafts: Drafts\nxlist-sent: Sent\nxlist-trash: Trash\nxlist-junk: Junk\nxlist-archive: Archive\n", $o{imap} // ''));
    spew("$dir/cyrus.conf", join('', "START {\n  recover cmd=\"ctl_cyrusdb -r\"\n}\nSERVICES {\n",
        "  imap cmd=\"imapd\" listen=\"127.0.0.1:$self->{imap}\"\n", "  imaps cmd=\"imapd -s\" listen=\"127.0.0.1:$self->{imaps}\"\n",
        "  lmtp cmd=\"lmtpd -a\" listen=\"127.0.0.1:$self->{lmtp}\"\n", "  lmtpunix cmd=\"lmtpd\" listen=\"$self->{lmtp_socket}\"\n",
        $o{services} // '', "}\n"));
    $self->accounts;
    $self->own;
    return $self;
}

# A certificate authority of our own, so that clients can verify as they do in earnest.
sub certificates {
    my ($self) = @_;
    my $t = "$self->{dir}/tls";
    spew("$t/ext", "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n");
    for my $cmd ("openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=interop-ca -keyout $t/ca.key -out $t/ca.pem",
        "openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout $t/key.pem -out $t/csr.pem",
        "openssl x509 -req -in $t/csr.pem -CA $t/ca.pem -CAkey $t/ca.key -CAcreateserial -days 30 -extfile $t/ext -out $t/cert.pem") {
        my ($st, $out) = run_cmd([split ' ', $cmd]);
        die "openssl: $out" if $st ne '0';
    }
    $self->{ca} = "$t/ca.pem";
}

sub accounts {
    my ($self) = @_;
    my $tool = which('saslpasswd2') or die "saslpasswd2 is missing: etc/install-deps --test\n";
    for my $u (@{ $self->{users} }) {
        my ($st, $out) = run_cmd([$tool, '-p', '-c', '-f', "$self->{dir}/conf/sasldb2", '-u', 'localhost', $u], in => $password);
        die "saslpasswd2: $out" if $st ne '0';
    }
}

sub own {
    my ($self) = @_;
    return unless $self->{user};
    my ($uid, $gid) = (getpwnam $self->{user})[2, 3];
    my ($st, $out) = run_cmd(['chown', '-R', "$uid:$gid", map { "$self->{dir}/$_" } qw(conf spool second tls socket)]);
    die $out if $st ne '0';
}

sub start {
    my ($self) = @_;
    my $pid = fork // die "fork: $!";
    if ($pid == 0) {
        open STDIN, '<', '/dev/null';
        open STDOUT, '>>', "$self->{dir}/log";
        open STDERR, '>&', \*STDOUT;
        no warnings "exec";
        exec "$build/cyrd", '-C', "$self->{dir}/imapd.conf", '-M', "$self->{dir}/cyrus.conf";
        POSIX::_exit(127);
    }
    $self->{pid} = $pid;
    my $before = () = ($self->log =~ /daemon\.ready/g);
    wait_for(sub { (() = ($self->log =~ /daemon\.ready/g)) > $before || !$self->alive }, 20);
    return $self if $self->alive && $self->log =~ /daemon\.ready/;
    note_lines($self->log);
    print "Bail out! cyrd does not start\n";
    exit 1;
}

sub log { my ($self) = @_; return slurp("$self->{dir}/log") // '' }

sub alive {
    my ($self) = @_;
    return 0 unless $self->{pid};
    if (waitpid($self->{pid}, WNOHANG) == $self->{pid}) { $self->{status} = $?; delete $self->{pid}; return 0 }
    return 1;
}

# End it. True when it ended by itself, cleanly, within 15 s.
sub stop {
    my ($self) = @_;
    return 0 unless $self->alive;
    kill 'TERM', $self->{pid};
    return $self->{status} == 0 if wait_for(sub { !$self->alive }, 15);
    kill 'KILL', $self->{pid};
    waitpid $self->{pid}, 0;
    delete $self->{pid};
    return 0;
}

# The last test of every program: it has survived, and its log has nothing an operator must act on.
sub ends_well {
    my ($self) = @_;
    ok($self->alive, 'the daemon is still there');
    my @errors = grep { /^\S*\s*(?:error|panic|fatal)\b|Sanitizer|runtime error/ } split /\n/, $self->log;
    ok(!@errors, 'it logged no error');
    note_lines(join "\n", @errors[0 .. ($#errors > 10 ? 10 : $#errors)]) if @errors;
    ok($self->stop, 'it ends by TERM');
    my ($st, $out) = run_cmd(["$build/cyrctl", '-C', "$self->{dir}/imapd.conf", 'check'], timeout => 300);
    ok($st eq '0', 'cyrctl check finds nothing wrong') or note_lines(substr $out, -2000);
}

sub ctl { my ($self, @args) = @_; return run_cmd(["$build/cyrctl", '-C', "$self->{dir}/imapd.conf", @args]) }
sub client { my ($self, $user) = @_; return Interop::Imap->new($self, $user) }

# A message over LMTP, as a witness's helper. Returns the reply to DATA's end.
sub deliver {
    my ($self, $user, $message) = @_;
    my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $self->{lmtp}, Timeout => 10) or die "lmtp: $!";
    my $reply = sub { my $l; do { $l = <$s> // die "lmtp: hung up" } while ($l =~ /^\d{3}-/); return $l };
    $reply->();
    for my $c ('LHLO interop', 'MAIL FROM:<tester@example.org>', "RCPT TO:<$user>", 'DATA') {
        print $s "$c\r\n";
        my $r = $reply->();
        die "$c: $r" unless $r =~ /^[23]/;
    }
    $message =~ s/(?<!\r)\n/\r\n/g;
    $message .= "\r\n" unless $message =~ /\r\n\z/;
    $message =~ s/^\./../mg;
    print $s "$message.\r\n";
    my $r = $reply->();
    print $s "QUIT\r\n";
    return $r;
}

sub DESTROY {
    my ($self) = @_;
    local ($?, $!, $@);
    $self->stop if $self->{owner} == $$ && $self->{pid};
}

# ---- a plain IMAP client: the witness --------------------------------------------------------------------------------------------

package Interop::Imap;
use IO::Socket::SSL;

sub new {
    my ($class, $daemon, $user) = @_;
    my $s = IO::Socket::SSL->new(PeerAddr => '127.0.0.1', PeerPort => $daemon->{imaps}, SSL_ca_file => $daemon->{ca},
        SSL_verifycn_scheme => 'imap', SSL_verifycn_name => 'localhost', Timeout => 20) or die "imaps: $! $SSL_ERROR";
    my $self = bless { s => $s, buf => '', tag => 0, greeting => '' }, $class;
    $self->{greeting} = $self->line;
    $self->do("LOGIN $user $Interop::password");
    return $self;
}

sub more { my ($self) = @_; my $n = sysread $self->{s}, $self->{buf}, 65536, length $self->{buf}; die "imap: connection lost\n" unless $n }

# One response, with the octets of its literals in place.
sub line {
    my ($self) = @_;
    my ($out, $at) = ('', 0);
    while (1) {
        my $i;
        while (($i = index $self->{buf}, "\r\n", $at) < 0) { $at = length $self->{buf}; $at-- if $at; $self->more }
        my $l = substr $self->{buf}, 0, $i + 2, '';
        $at = 0;
        $out .= $l;
        return $out unless $l =~ /\{(\d+)\}\r\n\z/;
        my $n = $1;
        $self->more while length $self->{buf} < $n;
        $out .= substr $self->{buf}, 0, $n, '';
    }
}

# A command; dies unless it is answered OK. Returns the untagged responses.
sub do {
    my ($self, $command, $literal) = @_;
    my ($r, $tagged) = $self->try($command, $literal);
    die "imap: $command: $tagged" unless $tagged =~ /^OK/;
    return @$r;
}

# (ref to untagged responses, the tagged one without its tag)
sub try {
    my ($self, $command, $literal) = @_;
    my $tag = 'w' . ++$self->{tag};
    my @untagged;
    $command .= '{' . length($literal) . '}' if defined $literal;
    print { $self->{s} } "$tag $command\r\n";
    while (1) {
        my $l = $self->line;
        if ($l =~ /^\+/) { print { $self->{s} } $literal, "\r\n"; next }
        return (\@untagged, $l) if $l =~ s/^\Q$tag\E //;
        push @untagged, $l;
    }
}

sub select { my ($self, $box) = @_; my @r = $self->do("SELECT \"$box\""); return (map { /^\* (\d+) EXISTS/ ? $1 : () } @r)[-1] }

# {uid => {flags => "…", body => octets}}
sub fetch {
    my ($self, $set, $what) = @_;
    my %m;
    for my $r ($self->do('UID FETCH ' . ($set // '1:*') . ' (UID FLAGS' . (defined $what && $what eq 'flags' ? '' : ' BODY.PEEK[]') . ')')) {
        next unless $r =~ /^\* \d+ FETCH \(/;
        my ($body) = $r =~ /BODY\[\] \{(\d+)\}\r\n/ ? substr($r, $+[0], $1) : $r =~ /BODY\[\] "((?:[^"\\]|\\.)*)"/ ? $1 : undef;
        my $head = defined $body ? $r =~ s/\{\d+\}\r\n.*(?=[^\n]*\r\n\z)//sr : $r;
        my ($uid) = $r =~ /^[^\r]*?\bUID (\d+)/ ? $1 : $r =~ /UID (\d+)[^\r]*\r\n\z/;
        my ($flags) = $r =~ /^[^\r]*?FLAGS \(([^)]*)\)/ ? $1 : $r =~ /FLAGS \(([^)]*)\)[^\r]*\r\n\z/;
        $m{$uid} = { flags => join(' ', sort grep { !/^\\Recent$/i } split ' ', $flags // ''), body => $body };
    }
    return \%m;
}

sub append { my ($self, $box, $message, $flags) = @_; $message =~ s/(?<!\r)\n/\r\n/g; return $self->do("APPEND \"$box\" " . ($flags ? "($flags) " : ''), $message) }
sub search { my ($self, $what) = @_; return map { /^\* SEARCH([ \d]*)/ ? split ' ', $1 : () } $self->do("UID SEARCH $what") }
sub logout { my ($self) = @_; $self->do('LOGOUT'); close $self->{s} }

1;
