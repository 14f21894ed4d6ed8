"""peers - start and end the servers that `make bench` compares: cyrd, and Cyrus IMAP and Dovecot as Debian has them.

Each instance has a directory of its own, users user1 … userN with the password "pass", IMAP on port P and LMTP on P+1 of 127.0.0.1, and
its syncs as its makers ship them. Cyrus comes from its installed packages; Dovecot, which Debian does not let stand beside it, is
unpacked below build/peers. Needs root.
"""
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), '..', '..'))
BUILD = os.path.abspath(os.environ.get('B') or os.path.join(TOP, 'build'))
PREFIX = os.path.join(TOP, 'build', 'peers')
TICKS = os.sysconf('SC_CLK_TCK')


def run(*argv, **more):
    r = subprocess.run(argv, capture_output=True, text=True, **more)
    if r.returncode != 0:
        raise SystemExit('%s: %s' % (' '.join(argv), (r.stdout + r.stderr).strip()[-2000:]))
    return r.stdout


def descendants(pid):
    found, waiting = [], [pid]
    while waiting:
        p = waiting.pop()
        found.append(p)
        try:
            for t in os.listdir('/proc/%d/task' % p):
                with open('/proc/%d/task/%s/children' % (p, t)) as f:
                    waiting += [int(c) for c in f.read().split()]
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


class Server:
    """One instance. start() and stop() may be called again: the mail stays."""
    name = version = None

    def __init__(self, directory, port, users):
        self.dir, self.port, self.lmtp, self.users, self.proc = directory, port, port + 1, users, None
        os.makedirs(directory)
        os.chmod(directory, 0o755)
        self.log = open(os.path.join(directory, 'log'), 'ab')
        self.prepare()

    def write(self, name, text):
        path = os.path.join(self.dir, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'w') as f:
            f.write(text)
        return path

    def own(self, user, *names):
        p = pwd.getpwnam(user)
        for name in names:
            path = os.path.join(self.dir, name)
            os.makedirs(path, exist_ok=True) if not os.path.exists(path) else None
            subprocess.run(['chown', '-R', '%d:%d' % (p.pw_uid, p.pw_gid), path], check=True)

    def sasldb(self):
        path = os.path.join(self.dir, 'sasldb2')
        for i in range(1, self.users + 1):
            run('saslpasswd2', '-p', '-c', '-f', path, '-u', 'localhost', 'user%d' % i, input='pass')

    def start(self):
        self.proc = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True)
        end = time.monotonic() + 60
        for port in (self.port, self.lmtp):
            while True:
                with socket.socket() as s:
                    if s.connect_ex(('127.0.0.1', port)) == 0:
                        break
                if self.proc.poll() is not None or time.monotonic() > end:
                    self.stop()
                    raise SystemExit('%s does not listen on port %d; see %s/log' % (self.name, port, self.dir))
                time.sleep(0.02)

    def stop(self):
        if not self.proc:
            return
        left = descendants(self.proc.pid)
        self.proc.terminate()
        try:
            self.proc.wait(30)
        except subprocess.TimeoutExpired:
            pass
        for pid in left:                        # what the master left behind, if anything
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.proc.wait()
        self.proc = None

    def pids(self):
        return descendants(self.proc.pid)

    def cpu_s(self):
        """Processor time of all its processes, ended ones included."""
        ticks = 0
        for pid in self.pids():
            try:
                with open('/proc/%d/stat' % pid) as f:
                    fields = f.read().rpartition(')')[2].split()
                ticks += sum(int(x) for x in fields[11:15])
            except (FileNotFoundError, ProcessLookupError):
                pass
        return ticks / TICKS


class Cyrd(Server):
    name = 'cyrd'
    user = 'cyrus'

    def prepare(self):
        self.version = run(os.path.join(BUILD, 'master'), '-V').split('\n')[0]
        self.write('imapd.conf', '''configdirectory: {d}/conf
partition-default: {d}/spool
defaultpartition: default
servername: localhost
admins: admin
allowplaintext: yes
sasl_pwcheck_method: auxprop
sasl_auxprop_plugin: sasldb
sasl_sasldb_path: {d}/sasldb2
sasl_mech_list: PLAIN LOGIN
autocreate_quota: 0
maxconnections_per_host: 0
maxlogins_per_user: 0
cyrus_user: {u}
'''.format(d=self.dir, u=self.user))
        self.write('cyrus.conf', '''START {
}
SERVICES {
  imap cmd="imapd" listen="127.0.0.1:%d"
  lmtp cmd="lmtpd -a" listen="127.0.0.1:%d"
}
''' % (self.port, self.lmtp))
        self.sasldb()
        self.own(self.user, 'conf', 'spool', 'sasldb2')

    def command(self):
        return [os.path.join(BUILD, 'cyrd'), '-C', self.dir + '/imapd.conf', '-M', self.dir + '/cyrus.conf']


class Cyrus(Server):
    name = 'Cyrus'

    @staticmethod
    def install():
        pass                                    # etc/install-deps --bench

    def prepare(self):
        self.version = run('dpkg-query', '-W', '-f', '${Version}', 'cyrus-imapd')
        self.write('imapd.conf', '''configdirectory: {d}/conf
partition-default: {d}/spool
defaultpartition: default
proc_path: {d}/proc
mboxname_lockpath: {d}/lock
sievedir: {d}/sieve
lmtpsocket: {d}/socket/lmtp
idlesocket: {d}/socket/idle
notifysocket: {d}/socket/notify
servername: localhost
admins: admin
allowplaintext: yes
altnamespace: yes
unixhierarchysep: yes
virtdomains: off
hashimapspool: yes
sasl_pwcheck_method: auxprop
sasl_auxprop_plugin: sasldb
sasl_sasldb_path: {d}/sasldb2
sasl_mech_list: PLAIN LOGIN
autocreate_quota: 0
autocreate_post: yes
umask: 077
'''.format(d=self.dir))
        b, c = '/usr/lib/cyrus/bin', self.dir + '/imapd.conf'
        self.write('cyrus.conf', f'''START {{
  recover cmd="{b}/ctl_cyrusdb -C {c} -r"
}}
DAEMON {{
  idled cmd="{b}/idled -C {c}"
}}
SERVICES {{
  imap cmd="{b}/imapd -C {c}" listen="127.0.0.1:{self.port}" prefork=5 maxchild=2000
  lmtp cmd="{b}/lmtpd -C {c} -a" listen="127.0.0.1:{self.lmtp}" prefork=1 maxchild=200
}}
EVENTS {{
  checkpoint cmd="{b}/ctl_cyrusdb -C {c} -c" period=30
}}
''')
        self.sasldb()
        for d in ('conf/db', 'conf/log', 'conf/msg', 'conf/socket', 'spool', 'proc', 'lock', 'socket', 'sieve'):
            os.makedirs(os.path.join(self.dir, d))
        subprocess.run(['chown', '-R', 'cyrus:mail', self.dir], check=True)

    def command(self):
        return ['/usr/sbin/cyrmaster', '-l', '1024', '-C', self.dir + '/imapd.conf', '-M', self.dir + '/cyrus.conf', '-p', self.dir + '/master.pid']


class Dovecot(Server):
    form = None                                 # maildir or mdbox
    packages = ('dovecot-core', 'dovecot-imapd', 'dovecot-lmtpd')
    root = os.path.join(PREFIX, 'dovecot')

    @classmethod
    def install(cls):
        """Unpack it, and put links where its programs look for their modules."""
        if not os.path.exists(cls.root + '/usr/sbin/dovecot'):
            debs = os.path.join(PREFIX, 'debs')
            os.makedirs(debs, exist_ok=True)
            run('apt-get', 'download', '-q', *cls.packages, cwd=debs)
            for name in os.listdir(debs):
                run('dpkg-deb', '-x', os.path.join(debs, name), cls.root)
        for there, here in (('/usr/lib/dovecot', '/usr/lib/dovecot'), ('/usr/share/dovecot', '/usr/share/dovecot'), ('/usr/bin/doveconf', '/usr/bin/doveconf')):
            if os.path.islink(there):
                os.unlink(there)
            if not os.path.exists(there):
                os.symlink(cls.root + here, there)
        for user in ('dovecot', 'dovenull', 'vmail'):
            try:
                pwd.getpwnam(user)
            except KeyError:
                run('useradd', '--system', '--no-create-home', '--home-dir', '/nonexistent', '--shell', '/usr/sbin/nologin', '--user-group', user)
        path = PREFIX                           # its unprivileged processes have to get there
        while path != '/':
            if not os.stat(path).st_mode & 0o001:
                raise SystemExit('%s must be searchable by all, for Dovecot' % path)
            path = os.path.dirname(path)

    def prepare(self):
        self.version = run(self.root + '/usr/sbin/dovecot', '--version').split()[0]
        for d in ('run', 'state', 'mail'):
            os.makedirs(os.path.join(self.dir, d))
        self.own('vmail', 'mail')
        self.write('passwd', ''.join('user%d:{PLAIN}pass\n' % i for i in range(1, self.users + 1)))
        self.write('dovecot.conf', '''base_dir = {d}/run
state_dir = {d}/state
libexec_dir = {p}/usr/lib/dovecot
mail_plugin_dir = {p}/usr/lib/dovecot/modules
log_path = {d}/dovecot.log
listen = 127.0.0.1
protocols = imap lmtp
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login
auth_username_format = %Ln
default_login_user = dovenull
default_internal_user = dovecot
default_internal_group = dovecot
first_valid_uid = 1
default_client_limit = 4000
mail_uid = vmail
mail_gid = vmail
mail_home = {d}/mail/%n
mail_location = {form}:~/{form}
mail_max_userip_connections = 4000
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%n {d}/passwd
}}
userdb {{
  driver = static
  args = uid=vmail gid=vmail home={d}/mail/%n allow_all_users=yes
}}
namespace inbox {{
  inbox = yes
  separator = /
}}
service imap-login {{
  process_limit = 1000
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service imap {{
  process_limit = 1000
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {lmtp}
  }}
}}
service stats {{
  unix_listener stats-writer {{
    mode = 0666
  }}
}}
'''.format(d=self.dir, p=self.root, form=self.form, imap=self.port, lmtp=self.lmtp))

    def command(self):
        return [self.root + '/usr/sbin/dovecot', '-F', '-c', self.dir + '/dovecot.conf']


class Maildir(Dovecot):
    name, form = 'Dovecot Maildir', 'maildir'


class Mdbox(Dovecot):
    name, form = 'Dovecot mdbox', 'mdbox'


ALL = (Cyrd, Cyrus, Maildir, Mdbox)
