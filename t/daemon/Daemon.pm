# Daemon - start, talk to and end one cyrd in a directory of its own, for the tests in t/daemon.
# As root the daemon's files belong to the user cyrus (or nobody), which it becomes.
package Daemon;
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Path qw(make_path remove_tree);
use File::Temp qw(tempdir);
use IO::Socket::INET;
use IO::Socket::UNIX;
use POSIX qw(WNOHANG);
use Time::HiRes qw(sleep time);

our $top = abs_path(dirname(__FILE__) . '/../..');
our $build = $ENV{BUILD} ? abs_path($ENV{BUILD}) : "$top/build";
our $user = (grep { getpwnam $_ } qw(cyrus nobody))[0];
my $next_port = $ENV{PORTS} || 21000 + $$ % 900;

sub port { return $next_port++ }

# new Daemon(imap => "more lines of imapd.conf", master => "cyrus.conf")
sub new {
    my ($class, %o) = @_;
    my $dir = tempdir('cyrdXXXXXX', DIR => $ENV{TMPDIR} || '/tmp', CLEANUP => 1);
    my $self = bless { dir => $dir, name => 'cyrd', %o }, $class;
    chmod 0755, $dir;
    make_path("$dir/conf", "$dir/spool");
    $self->write('imapd.conf', "configdirectory: $dir/conf\npartition-default: $dir/spool\nservername: localhost\n"
        . ($> == 0 ? "cyrus_user: $user\n" : '') . ($o{imap} // ''));
    $self->write('cyrus.conf', $o{master} // '');
    $self->own;
    return $self;
}

sub own {
    my ($self) = @_;
    return if $> != 0;
    my ($uid, $gid) = (getpwnam $user)[2, 3];
    chown $uid, $gid, map { "$self->{dir}/$_" } '', qw(conf spool);
}

sub write {
    my ($self, $name, $text) = @_;
    $text =~ s/\@DIR\@/$self->{dir}/g;
    open my $f, '>', "$self->{dir}/$name" or die "$self->{dir}/$name: $!";
    print $f $text;
    close $f;
}

sub slurp {
    my ($self, $name) = @_;
    open my $f, '<', "$self->{dir}/$name" or return '';
    local $/;
    return scalar(<$f>) // '';
}

sub command { my ($self, @more) = @_; return ("$build/$self->{name}", '-C', "$self->{dir}/imapd.conf", '-M', "$self->{dir}/cyrus.conf", @more) }

# Run to the end. Returns the exit status and what was printed.
sub run {
    my ($self, @more) = @_;
    my $out = "$self->{dir}/out";
    my $pid = fork // die;
    if ($pid == 0) {
        open STDIN, '<', '/dev/null';
        open STDOUT, '>', $out;
        open STDERR, '>&', \*STDOUT;
        exec $self->command(@more);
        exit 127;
    }
    my $end = time + 20;
    while (waitpid($pid, WNOHANG) == 0) {
        if (time > $end) { kill 'KILL', $pid; waitpid $pid, 0; return ('timeout', $self->slurp('out')) }
        sleep 0.01;
    }
    return ($? & 127 ? "signal " . ($? & 127) : $? >> 8, $self->slurp('out'));
}

# Start in the foreground and wait until it says that it is ready. Its log is in the file "log".
sub start {
    my ($self, @more) = @_;
    unlink "$self->{dir}/log";
    my $pid = fork // die;
    if ($pid == 0) {
        open STDIN, '<', '/dev/null';
        open STDOUT, '>', "$self->{dir}/log";
        open STDERR, '>&', \*STDOUT;
        exec $self->command(@more);
        exit 127;
    }
    $self->{pid} = $pid;
    return $self->wait_log(qr/daemon\.ready/);
}

sub wait_for {
    my ($code, $seconds) = @_;
    my $end = time + ($seconds // 10);
    until ($code->()) { return 0 if time > $end; sleep 0.02 }
    return 1;
}

sub wait_log { my ($self, $re, $seconds) = @_; return wait_for(sub { $self->slurp('log') =~ $re || !$self->alive }, $seconds) && $self->slurp('log') =~ $re }

sub alive {
    my ($self) = @_;
    return 0 unless $self->{pid};
    if (waitpid($self->{pid}, WNOHANG) == $self->{pid}) { $self->{status} = $?; delete $self->{pid}; return 0 }
    return 1;
}

# TERM, and wait. Returns the seconds it took, undef when it had to be killed; the wait status is in {status}.
sub stop {
    my ($self, $signal) = @_;
    my $t = time;
    return 0 unless $self->alive;
    kill $signal // 'TERM', $self->{pid};
    return time - $t if wait_for(sub { !$self->alive }, 12);
    kill 'KILL', $self->{pid};
    waitpid $self->{pid}, 0;
    delete $self->{pid};
    return undef;
}

sub tcp { my ($port) = @_; return IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port, Timeout => 5) }

sub DESTROY {
    my ($self) = @_;
    local ($?, $!, $@);
    $self->stop if $self->{pid};
}

1;
