"""cyrd - start, talk to and end one cyrd in a directory of its own, for the tests in t/crash, t/load and t/hostile.

As root the daemon's files belong to the user cyrus (or nobody), which it becomes. The clients are raw: what is sent is what the
caller wrote, what comes back is kept octet for octet, literals included.
"""
import atexit
import atexit
import base64
import json
import os
import pwd
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), '..', '..'))
BUILD = os.path.abspath(os.environ.get('B') or os.path.join(TOP, 'build'))
ADMIN, PASSWORD = 'admin', 'sesame'


signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


class Closed(Exception):
    """The peer hung up, or did not answer in time."""


def filesystem(path):
    return subprocess.run(['stat', '-f', '-c', '%T', path], capture_output=True, text=True).stdout.strip()


def scratch(name):
    """A new directory on a real disk where there is one: tmpfs knows no crash and syncs nothing."""
    places = [p for p in (os.environ.get('CYRD_SCRATCH'), os.environ.get('TMPDIR'), '/var/tmp', '/tmp') if p and os.path.isdir(p)]
    disks = [p for p in places if filesystem(p) not in ('tmpfs', 'ramfs')]
    made = tempfile.mkdtemp(prefix='cyrd-%s-' % name, dir=(disks or places)[0])
    os.chmod(made, 0o755)
    return made


def owner():
    """The account that the daemon becomes when started as root; None: our own."""
    if os.geteuid() != 0:
        return None
    for name in ('cyrus', 'nobody'):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            pass
    raise SystemExit('neither cyrus nor nobody is an account here')


class Daemon:
    def __init__(self, directory, port, options='', services='', events='', tls=False):
        self.dir, self.port, self.imaps, self.lmtp = directory, port, port + 1, port + 2
        atexit.register(self.kill)              # whatever ends the test, timeout(1) included, ends the daemon
        self.proc, self.pw, self.log = None, owner(), os.path.join(directory, 'log')
        for sub in ('conf', 'spool', 'tls', 'conf/socket'):
            os.makedirs(os.path.join(directory, sub), exist_ok=True)
        user = '' if not self.pw else 'cyrus_user: %s\n' % self.pw.pw_name
        if tls:
            self._certificate()
            user += 'tls_server_cert: %s/tls/cert.pem\ntls_server_key: %s/tls/key.pem\n' % (directory, directory)
        self.write('imapd.conf', '''configdirectory: {d}/conf
partition-default: {d}/spool
defaultpartition: default
servername: localhost
admins: admin
allowplaintext: yes
altnamespace: yes
unixhierarchysep: yes
sasl_pwcheck_method: auxprop
sasl_auxprop_plugin: sasldb
sasl_sasldb_path: {d}/conf/sasldb2
sasl_mech_list: PLAIN
autocreate_quota: 0
autocreate_post: yes
master_bind_errors_fatal: yes
'''.format(d=directory) + user + options)
        imaps = 'imaps cmd="imapd -s" listen="127.0.0.1:%d"\n' % self.imaps if tls else ''
        self.write('cyrus.conf', '''START {
  recover cmd="ctl_cyrusdb -r"
}
SERVICES {
  imap cmd="imapd" listen="127.0.0.1:%d"
  lmtp cmd="lmtpd -a" listen="127.0.0.1:%d"
  %s%s
}
EVENTS {
%s
}
''' % (self.port, self.lmtp, imaps, services, events))
        if not os.path.exists(self.path('conf/sasldb2')):
            subprocess.run(['/usr/sbin/saslpasswd2', '-p', '-c', '-u', 'localhost', '-f', self.path('conf/sasldb2'), ADMIN],
                           input=PASSWORD.encode(), check=True)
        self.own()

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text):
        with open(self.path(name), 'w') as f:
            f.write(text)

    def append_option(self, text):
        with open(self.path('imapd.conf'), 'a') as f:
            f.write(text)

    def _certificate(self):
        if not os.path.exists(self.path('tls/cert.pem')):
            subprocess.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '30',
                            '-subj', '/CN=localhost', '-keyout', self.path('tls/key.pem'), '-out', self.path('tls/cert.pem')],
                           check=True, capture_output=True)

    def own(self):
        if self.pw:
            for root, dirs, files in os.walk(self.dir):
                for n in [root] + [os.path.join(root, f) for f in files]:
                    os.chown(n, self.pw.pw_uid, self.pw.pw_gid)

    def command(self):
        return [os.path.join(BUILD, 'cyrd'), '-C', self.path('imapd.conf'), '-M', self.path('cyrus.conf')]

    def start(self, env=None, wait=30, preexec=None):
        """Start in the foreground; True once it says that it is ready, False when it ended before."""
        self.mark = os.path.getsize(self.log) if os.path.exists(self.log) else 0
        with open(self.log, 'ab') as out:
            self.proc = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=dict(os.environ, **(env or {})),
                                         preexec_fn=preexec)
        # However the test ends, its daemon does not outlive it.
        atexit.register(self.kill)
        return self.wait_ready(wait) if wait else True

    def logged(self):
        """What was logged since the start."""
        with open(self.log, 'rb') as f:
            f.seek(self.mark)
            return f.read().decode('utf-8', 'replace')

    def wait_ready(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if 'daemon.ready' in self.logged():
                return True
            if self.proc.poll() is not None:
                return False
            time.sleep(0.005)
        return False

    def alive(self):
        return self.proc is not None and self.proc.poll() is None

    def kill(self):
        if self.alive():
            self.proc.send_signal(signal.SIGKILL)
        if self.proc:
            self.proc.wait()

    def stop(self, seconds=15):
        """TERM and wait. The exit status; None when it had to be killed."""
        if self.proc is None:
            return 0
        if self.alive():
            self.proc.send_signal(signal.SIGTERM)
        try:
            return self.proc.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def ctl(self, *args, timeout=120):
        r = subprocess.run([os.path.join(BUILD, 'cyrctl'), '-C', self.path('imapd.conf')] + list(args), capture_output=True, text=True,
                           timeout=timeout)
        return r.returncode, r.stdout + r.stderr

    def ctl_rows(self, *args):
        rc, text = self.ctl('--json', *args)
        return [json.loads(l) for l in text.splitlines() if l.startswith('{')]

    def imap(self, **kw):
        return Imap(self.imaps if kw.get('tls') else self.port, **kw)

    def user(self, user, **kw):
        c = self.imap(**kw)
        c.login(user)
        return c

    def deliver(self, recipients, message, **kw):
        l = Lmtp(self.lmtp, **kw)
        try:
            return l.deliver(recipients, message)
        finally:
            l.close()

    def keep_or_remove(self, failed):
        if failed or os.environ.get('KEEP'):
            print('# the directory is kept: ' + self.dir)
        else:
            shutil.rmtree(self.dir, ignore_errors=True)


class Stream:
    def __init__(self, port, tls=False, source=None, timeout=30, rcvbuf=0):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            if rcvbuf:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sock.settimeout(timeout)
            if source:
                self.sock.bind((source, 0))
            self.sock.connect(('127.0.0.1', port))
        except OSError as e:
            self.sock.close()
            raise Closed(str(e))
        self.buf, self.eof = bytearray(), False
        if tls:
            self.starttls()

    def starttls(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.sock = context.wrap_socket(self.sock)

    def send(self, octets):
        try:
            self.sock.sendall(octets)
        except OSError as e:
            raise Closed(str(e))

    def _more(self):
        try:
            got = self.sock.recv(262144)
        except OSError as e:
            raise Closed(str(e) or 'no answer')
        if not got:
            self.eof = True
            raise Closed('hung up')
        self.buf += got

    def line(self):
        while True:
            i = self.buf.find(b'\n')
            if i >= 0:
                l = bytes(self.buf[:i + 1])
                del self.buf[:i + 1]
                return l
            self._more()

    def take(self, n):
        while len(self.buf) < n:
            self._more()
        got = bytes(self.buf[:n])
        del self.buf[:n]
        return got

    def rest(self, seconds=5):
        """All that comes until the peer hangs up or is silent for so long."""
        self.sock.settimeout(seconds)
        try:
            while True:
                self._more()
        except Closed:
            pass
        got = bytes(self.buf)
        self.buf.clear()
        return got

    def close(self):
        try:
            self.sock.close()
        except OSError:
            pass


LITERAL = re.compile(rb'\{(\d+)\+?\}\r\n$')


class Imap(Stream):
    def __init__(self, port, greet=True, **kw):
        super().__init__(port, **kw)
        self.n, self.selected = 0, None
        self.greeting = self.line() if greet else b''

    def response(self):
        """One response with its literals: b'* 1 FETCH (BODY[] {3}\\r\\nabc)\\r\\n'."""
        out = self.line()
        while True:
            m = LITERAL.search(out)
            if not m:
                return out
            out += self.take(int(m.group(1))) + self.line()

    def finish(self, tag):
        untagged = []
        while True:
            r = self.response()
            if r.startswith(tag + b' '):
                words = r.split(b' ', 2)
                return words[1].decode(), words[2].rstrip(b'\r\n').decode('utf-8', 'replace') if len(words) > 2 else '', untagged
            untagged.append(r)

    def cmd(self, *parts):
        """Send a command; bytes among the parts that follow a str ending in '}' are literals sent without waiting."""
        self.n += 1
        tag = b'a%d' % self.n
        self.send(tag + b' ' + b''.join(p.encode() if isinstance(p, str) else p for p in parts) + b'\r\n')
        return self.finish(tag)

    def ok(self, *parts):
        r = self.cmd(*parts)
        if r[0] != 'OK':
            raise AssertionError('%s: %s %s' % (parts[0], r[0], r[1]))
        return r

    def login(self, user):
        plain = base64.b64encode(b'%s\0%s\0%s' % (user.encode(), ADMIN.encode(), PASSWORD.encode()))
        self.ok('AUTHENTICATE PLAIN ', plain)

    def append(self, mailbox, message, flags=''):
        return self.cmd('APPEND "%s" %s{%d+}\r\n' % (mailbox, '(%s) ' % flags if flags else '', len(message)), message)


class Lmtp(Stream):
    def __init__(self, port, **kw):
        super().__init__(port, **kw)
        self.greeting = self.reply()
        self.talk('LHLO test')

    def reply(self):
        while True:
            l = self.line()
            if l[3:4] != b'-':
                return int(l[:3]) if l[:3].isdigit() else 0, l.rstrip().decode('utf-8', 'replace')

    def talk(self, line):
        self.send(line.encode() + b'\r\n' if isinstance(line, str) else line)
        return self.reply()

    def deliver(self, recipients, message):
        """A reply (code, text) for each recipient."""
        self.send(b'MAIL FROM:<>\r\n' + b''.join(b'RCPT TO:<%s>\r\n' % r.encode() for r in recipients) + b'DATA\r\n')
        first = self.reply()
        rcpt = [self.reply() for _ in recipients]
        data = self.reply()
        if data[0] != 354:
            if first[0] == 250 and any(r[0] == 250 for r in rcpt):
                self.talk('RSET')
            return [r if r[0] != 250 else data for r in rcpt]
        self.send(re.sub(rb'(?m)^\.', b'..', message) + b'.\r\n')
        return [self.reply() if r[0] == 250 else r for r in rcpt]


class Tap:
    """Counts and prints results; done() is the exit status."""
    def __init__(self):
        self.n = self.bad = 0

    def ok(self, good, name, why=''):
        self.n += 1
        self.bad += not good
        print('%sok %d - %s' % ('' if good else 'not ', self.n, name))
        if not good and why:
            for l in str(why).splitlines()[:60]:
                print('#   ' + l[:500])
        sys.stdout.flush()
        return good

    def note(self, text):
        for l in str(text).splitlines():
            print('# ' + l)
        sys.stdout.flush()

    def done(self):
        print('1..%d' % self.n)
        print('# %d passed, %d failed' % (self.n - self.bad, self.bad))
        return 1 if self.bad else 0
