# Postfix - an instance of Debian's Postfix of its own: configuration, queue and log in a scratch directory, SMTP on a loopback port,
# everything for example.test handed to cyrd by LMTP. Nothing of the system's own Postfix is read or changed. Needs root, as Postfix does.
package Postfix;
use strict;
use warnings;
use File::Path qw(make_path);
use File::Temp qw(tempdir);
use IO::Socket::INET;
use Interop;

# new Postfix(transports => {name => [destination domain, nexthop]}, master => "more lines of master.cf")
sub new {
    my ($class, %o) = @_;
    my $dir = tempdir('cyrd-postfixXXXXXX', DIR => $ENV{TMPDIR} || '/tmp', CLEANUP => !$ENV{KEEP});
    my $self = bless { dir => $dir, port => free_port(), owner => $$ }, $class;
    chmod 0755, $dir;
    make_path("$dir/etc", "$dir/queue", "$dir/data");
    chown((getpwnam 'postfix')[2], -1, "$dir/data");
    my $t = $o{transports};
    spew("$dir/etc/main.cf", <<"END");
compatibility_level = 3.6
queue_directory = $dir/queue
data_directory = $dir/data
maillog_file = $dir/log
maillog_file_prefixes = /
myhostname = postfix.example.org
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
local_recipient_maps =
relay_domains = @{[ join ' ', map { $t->{$_}[0] } sort keys %$t ]}
relay_recipient_maps =
transport_maps = inline:{ @{[ join ', ', map { "{ $t->{$_}[0] = $t->{$_}[1] }" } sort keys %$t ]} }
default_transport = error:5.1.2 loopback only
# What would alter or split a message.
local_header_rewrite_clients =
message_size_limit = 0
mailbox_size_limit = 0
virtual_mailbox_limit = 0
line_length_limit = 4194304
header_size_limit = 4194304
lmtp_line_length_limit = 0
smtp_line_length_limit = 0
mime_nesting_limit = 1000
lmtp_destination_recipient_limit = 50
lmtp_destination_concurrency_limit = 8
lmtp_tls_security_level = none
smtpd_tls_security_level = none
smtpd_client_connection_count_limit = 0
anvil_rate_time_unit = 60s
in_flow_delay = 0
minimal_backoff_time = 5s
maximal_backoff_time = 10s
queue_run_delay = 5s
notify_classes =
biff = no
END
    spew("$dir/etc/master.cf", <<"END");
127.0.0.1:$self->{port} inet n - n - - smtpd
pickup    unix  n - n 60 1 pickup
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
verify    unix  - - n - 1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n - - proxymap
lmtp      unix  - - n - - lmtp
smtp      unix  - - n - - smtp
showq     unix  n - n - - showq
error     unix  - - n - - error
retry     unix  - - n - - error
discard   unix  - - n - - discard
anvil     unix  - - n - 1 anvil
scache    unix  - - n - 1 scache
tlsmgr    unix  - - n 1000? 1 tlsmgr
postlog   unix-dgram n - n - 1 postlogd
@{[ $o{master} // '' ]}
END
    return $self;
}

sub start {
    my ($self) = @_;
    my ($st, $out) = run_cmd([which('postfix'), '-c', "$self->{dir}/etc", 'start'], timeout => 60);
    wait_for(sub { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $self->{port}, Timeout => 1) }, 20) or do {
        note_lines($out);
        note_lines(slurp("$self->{dir}/log"));
        print "Bail out! Postfix does not start\n";
        exit 1;
    };
    $self->{running} = 1;
    return $self;
}

# smtp(sender, [recipients], message): hand one message in over SMTP, on a connection that is kept. Returns the last reply.
sub smtp {
    my ($self, $from, $to, $message) = @_;
    my $s = $self->{smtp} //= do {
        my $c = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $self->{port}, Timeout => 20) or die "smtp: $!";
        $self->reply($c);
        print $c "EHLO interop\r\n";
        $self->reply($c);
        $c;
    };
    print $s join '', "MAIL FROM:<$from> BODY=8BITMIME\r\n", map("RCPT TO:<$_>\r\n", @$to), "DATA\r\n";
    my @r = map { $self->reply($s) } 1 .. @$to + 2;
    die "smtp: @r" unless $r[-1] =~ /^354/;
    $message =~ s/^\./../mg;
    print $s $message, ".\r\n";
    return $self->reply($s);
}

sub reply { my ($self, $s) = @_; my $l; do { $l = <$s> // die "smtp: hung up" } while ($l =~ /^\d{3}-/); return $l }

# Messages go from maildrop to incoming to active, and between active and deferred: in this order none that moves meanwhile is missed.
sub queued { my ($self) = @_; my $n = 0; for my $q (qw(maildrop incoming hold deferred active deferred)) { $n += grep { -f } glob("$self->{dir}/queue/$q/* $self->{dir}/queue/$q/?/*") } return $n }
sub log { my ($self) = @_; return slurp("$self->{dir}/log") // '' }

sub stop {
    my ($self) = @_;
    return unless delete $self->{running};
    run_cmd([which('postfix'), '-c', "$self->{dir}/etc", 'stop'], timeout => 60);
}

sub DESTROY { my ($self) = @_; local ($?, $!, $@); $self->stop if $self->{owner} == $$ }

1;
