"""repl - masters and replicas for the tests of replication, real Cyrus among them, and what is compared between them over IMAP.

A pair is compared by image(): everything that clients can see, as each of the users sees it. Two images are equal or diff() says where they are not.
"""
import hashlib
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import cyrd                                     # noqa: E402
import cyrus                                    # noqa: E402

CYRUS = '/usr/lib/cyrus/bin'
AUTH, PASSWORD = 'repluser', 'secret'


def have_cyrus():
    return os.geteuid() == 0 and os.path.exists(CYRUS + '/sync_server') and os.path.exists('/usr/sbin/cyrmaster')


def add_user(db, user, password=PASSWORD):
    subprocess.run(['/usr/sbin/saslpasswd2', '-p', '-c', '-u', 'localhost', '-f', db, user], input=password.encode(), check=True)


class Node:
    """What both have: a port each for IMAP, csync and IMAP with TLS."""

    def admin(self, **kw):
        c = self.imap(**kw)
        c.ok('LOGIN admin ' + cyrd.PASSWORD)
        return c


class Cyrd(cyrd.Daemon, Node):
    """A cyrd with csync (port + 4) beside IMAP. Other options and services may be given."""

    def __init__(self, directory, port, options='', services='', tls=False, mechs='PLAIN'):
        os.makedirs(directory, exist_ok=True)
        base = ('sievedir: %s/sieve\nallowusermoves: yes\ndelete_mode: delayed\nexpunge_mode: delayed\nsync_timeout: 20s\n' % directory + options)
        services += '\n  csync cmd="sync_server" listen="127.0.0.1:%d"\n  csyncunix cmd="sync_server" listen="%s/csync"' % (port + 4, directory)
        super().__init__(directory, port, options=base, services=services, tls=tls)
        self.csync = port + 4
        conf = open(self.path('imapd.conf')).read()
        conf = conf.replace('admins: admin\n', 'admins: admin %s\n' % AUTH).replace('sasl_mech_list: PLAIN\n', 'sasl_mech_list: %s\n' % mechs)
        self.write('imapd.conf', conf)
        add_user(self.path('conf/sasldb2'), AUTH)
        add_user(self.path('conf/sasldb2'), 'nobody1')
        for name in ('sync_client',):
            if not os.path.lexists(self.path(name)):
                os.symlink(os.path.join(cyrd.BUILD, 'cyrd'), self.path(name))
        self.own()

    def own(self):
        """Symbolic links too, that lead nowhere."""
        if self.pw:
            subprocess.run(['chown', '-Rh', '%d:%d' % (self.pw.pw_uid, self.pw.pw_gid), self.dir], check=True)

    def sync(self, *args, timeout=120):
        """sync_client: exit status, output, errors."""
        r = subprocess.run([self.path('sync_client'), '-C', self.path('imapd.conf')] + list(args), capture_output=True, timeout=timeout)
        return r.returncode, r.stdout.decode(), r.stderr.decode('latin-1')


class Cyrus(Node):
    """A real one, with the same names for users."""

    def __init__(self, directory, port, options='', tls=False, mechs='PLAIN', sieve=False, services=()):
        """services: (name, program, port) of some more."""
        self.dir, self.port, self.csync, self.imaps, self.sieve, self.proc = directory, port, port + 4, port + 1, port + 3, None
        services = list(services) + ([('sieve', 'timsieved', self.sieve)] if sieve else [])
        for sub in ('conf/db', 'conf/socket', 'conf/sync', 'conf/log', 'conf/msg', 'conf/user', 'spool', 'sieve', 'run/proc', 'run/lock', 'tls'):
            os.makedirs(self.path(sub), exist_ok=True)
        opts = {'configdirectory': self.path('conf'), 'partition-default': self.path('spool'), 'defaultpartition': 'default', 'servername': 'localhost',
                'admins': 'admin ' + AUTH, 'allowplaintext': 'yes', 'altnamespace': 'yes', 'unixhierarchysep': 'yes', 'sasl_pwcheck_method': 'auxprop',
                'sasl_auxprop_plugin': 'sasldb', 'sasl_sasldb_path': self.path('conf/sasldb2'), 'sasl_mech_list': mechs, 'sasl_minimum_layer': '0',
                'delete_mode': 'delayed', 'expunge_mode': 'delayed', 'conversations': 'no', 'allowusermoves': 'yes', 'proc_path': self.path('run/proc'),
                'mboxname_lockpath': self.path('run/lock'), 'lmtpsocket': self.path('run/lmtp'), 'idlesocket': self.path('run/idle'),
                'notifysocket': self.path('run/notify'), 'sievedir': self.path('sieve'), 'sieveusehomedir': 'no', 'quota_db': 'quotalegacy',
                'annotation_allow_undefined': 'yes', 'popminpoll': '0'}
        if tls:
            self._certificate()
            opts.update({'tls_server_cert': self.path('tls/cert.pem'), 'tls_server_key': self.path('tls/key.pem')})
        for line in options.splitlines():
            k, v = line.split(':', 1)
            opts[k.strip()] = v.strip()
        with open(self.path('imapd.conf'), 'w') as f:
            f.write(''.join('%s: %s\n' % kv for kv in sorted(opts.items())))
        c = self.path('imapd.conf')
        with open(self.path('cyrus.conf'), 'w') as f:
            f.write('START {\n  recover cmd="ctl_cyrusdb -C %s -r"\n}\nSERVICES {\n  imap cmd="imapd -C %s" listen="127.0.0.1:%d" prefork=0\n'
                    '  csync cmd="sync_server -C %s" listen="127.0.0.1:%d" prefork=0\n'
                    '  csyncunix cmd="sync_server -C %s" listen="%s" prefork=0\n%s}\nEVENTS {\n}\n'
                    % (c, c, port, c, self.csync, c, self.path('csync'), ''.join('  %s cmd="%s -C %s" listen="127.0.0.1:%d" prefork=0\n' % (n, what, c, at)
                                                                                for n, what, at in services) + '  imaps cmd="imapd -s -C %s" listen="127.0.0.1:%d" prefork=0\n' % (c, self.imaps) * tls))
        for u, p in (('admin', cyrd.PASSWORD), (AUTH, PASSWORD)) + (('user1', cyrd.PASSWORD),) * sieve:
            add_user(self.path('conf/sasldb2'), u, p)
        subprocess.run(['chown', '-R', 'cyrus:mail', directory], check=True)
        cyrd.atexit.register(self.kill)

    def path(self, name):
        return os.path.join(self.dir, name)

    def _certificate(self):
        subprocess.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '30',
                        '-subj', '/CN=localhost', '-keyout', self.path('tls/key.pem'), '-out', self.path('tls/cert.pem')], check=True, capture_output=True)

    def start(self, wait=30):
        self.proc = subprocess.Popen(['/usr/sbin/cyrmaster', '-C', self.path('imapd.conf'), '-M', self.path('cyrus.conf'), '-p', self.path('pid'), '-D'],
                                     stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        end = time.monotonic() + wait
        while time.monotonic() < end and self.proc.poll() is None:
            try:
                with socket.create_connection(('127.0.0.1', self.csync)), socket.create_connection(('127.0.0.1', self.port)):
                    return True
            except OSError:
                time.sleep(0.05)
        return False

    def stop(self):
        if self.proc and self.proc.poll() is None:
            self.proc.terminate()
            try:
                self.proc.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()
        return 0

    def kill(self):
        if self.proc and self.proc.poll() is None:
            try:
                os.killpg(self.proc.pid, signal.SIGKILL)
            except OSError:
                pass
            self.proc.wait()
            for port in (self.port, self.csync):    # its services have the sockets too, and take a moment to be gone
                for _ in range(200):
                    try:
                        socket.create_connection(('127.0.0.1', port)).close()
                    except OSError:
                        break
                    time.sleep(0.02)

    imap = cyrd.Daemon.imap
    user = cyrd.Daemon.user
    managesieve = cyrus.Cyrus.managesieve
    keep_or_remove = cyrd.Daemon.keep_or_remove


# ---- what is compared ----

FETCH = re.compile(rb'^\* (\d+) FETCH \(')
NAME = re.compile(rb'^\* (?:LIST|LSUB) \(([^)]*)\) (?:"[^"]*"|NIL) (.*?)\r\n', re.S)
USES = {b'\\Sent', b'\\Drafts', b'\\Trash', b'\\Junk', b'\\Archive', b'\\Noselect', b'\\NonExistent'}


def astring(raw):
    m = re.match(rb'^\{\d+\}\r\n(.*)$', raw, re.S)
    if m:
        return m.group(1).decode()
    return raw[1:-1].replace(b'\\"', b'"').replace(b'\\\\', b'\\').decode() if raw.startswith(b'"') else raw.decode()


def listed(c, command):
    out = {}
    for r in c.ok(command)[2]:
        m = NAME.match(r)
        if m:
            out[astring(m.group(2))] = sorted(a.decode() for a in m.group(1).split() if a in USES)
    return out


def quote(name):
    return '"%s"' % name.replace('\\', '\\\\').replace('"', '\\"')


def messages(c):
    """UID → what there is to know of a message."""
    out = {}
    if c.cmd('NOOP') and not c.exists:
        return out
    for r in c.ok('UID FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE MODSEQ BODY.PEEK[])')[2]:
        if not FETCH.match(r):
            continue
        uid = int(re.search(rb'\bUID (\d+)', r).group(1))
        flags = sorted(f.lower().decode() for f in re.search(rb'FLAGS \(([^)]*)\)', r).group(1).split())
        m = re.search(rb'BODY\[\] (?:\{(\d+)\}\r\n|"")', r)
        body = r[m.end():m.end() + int(m.group(1))] if m.group(1) else b''
        out[uid] = (flags, re.search(rb'INTERNALDATE ("[^"]*")', r).group(1).decode(), int(re.search(rb'RFC822.SIZE (\d+)', r).group(1)),
                    int(re.search(rb'MODSEQ \((\d+)\)', r).group(1)), hashlib.sha1(body).hexdigest())
    return out


def annotations(c, what):
    """Of messages: /comment, shared and private, of those that have any."""
    out = {}
    for r in c.cmd('UID FETCH %s (ANNOTATION (/comment (value.shared value.priv)))' % what)[2]:
        m = re.search(rb'UID (\d+)', r)
        got = sorted(re.findall(rb'value\.(shared|priv) ("[^"]*")', r))
        if m and got:
            out[int(m.group(1))] = got
    return out


def examine(c, name):
    kind, text, rows = c.cmd('EXAMINE ' + quote(name))
    if kind != 'OK':
        return None
    c.exists = sum(int(m.group(1)) for r in rows for m in [re.match(rb'\* (\d+) EXISTS', r)] if m)
    return messages(c)


def untagged(rows, word):
    return sorted(r.rstrip(b'\r\n').decode('utf-8', 'replace') for r in rows if r.startswith(b'* ' + word))


def numbers(row):
    """A STATUS line, in any order of its items."""
    m = re.search(r'\(([^()]*)\)$', row)
    words = m.group(1).split() if m else []
    return sorted(zip(words[::2], words[1::2]))


SHAREDSEEN = '/shared/vendor/cmu/cyrus-imapd/sharedseen'


def metadata(c, name, entries):
    """{entry: value} of what is set."""
    out = {}
    for e in entries:
        for r in c.cmd('GETMETADATA %s (%s)' % (quote(name), e))[2]:
            m = re.match(rb'^\* METADATA .*\("?(/[^" ]*)"? (.*)\)\r\n$', r, re.S)
            if m and m.group(2) != b'NIL':
                out[e] = astring(m.group(2)).encode() if not m.group(2).startswith(b'~') else m.group(2)
    return out


def image(node, users, names='*'):
    """Everything, for comparing: {place: value}. names: which mailboxes the administrator looks at, a pattern of LIST."""
    out = {}
    a = node.admin()
    for name, uses in listed(a, 'LIST "" ' + quote(names)).items():
        if name.startswith('DELETED/') or name.endswith('/#sieve'):    # where a real Cyrus keeps scripts
            continue
        if '\\Noselect' in uses or '\\NonExistent' in uses:              # a name with children only: a real Cyrus lists it in more cases
            continue
        out['list', name] = True
        out['acl', name] = untagged(a.cmd('GETACL ' + quote(name))[2], b'ACL')
        out['quota', name] = {r.split()[2]: {k: (int(used), int(limit)) for k, used, limit in re.findall(r'(\S+) (\d+) (\d+)', r[r.rindex('('):].strip('()'))}
                              for r in untagged(a.cmd('GETQUOTAROOT ' + quote(name))[2], b'QUOTA ')}
    out['annotation', ''] = metadata(a, '', ['/shared/comment'])
    a.close()
    for user in users:
        c = node.user(user)
        out['subscribed', user] = sorted(listed(c, 'LSUB "" "*"'))
        for name, uses in listed(c, 'LIST "" "*" RETURN (SPECIAL-USE)').items():
            out['mailbox', user, name] = uses
            # What is \\Recent to somebody else a real Cyrus knows from when he selected it, cyrd from when anybody did.
            mine = not name.startswith(('Other Users/', 'Shared Folders/'))
            out['status', user, name] = [numbers(r) for r in untagged(c.cmd('STATUS %s (MESSAGES UIDNEXT UIDVALIDITY HIGHESTMODSEQ UNSEEN%s)'
                                                                            % (quote(name), ' RECENT' * mine))[2], b'STATUS')]
            out['annotations', user, name] = metadata(c, name, ['/shared/comment', '/private/comment', SHAREDSEEN])
            got = examine(c, name)
            if got is None:
                continue
            for uid, m in got.items():
                out['message', user, name, uid] = ([f for f in m[0] if mine or f != '\\recent'],) + m[1:]
            if got:
                out['message annotations', user, name] = annotations(c, '1:*')
        c.close()
    return out


def scripts(d):
    """{name: text}, and which is active, below a sievedir."""
    found, active = {}, None
    for root, dirs, files in os.walk(d):
        for f in files:
            p = os.path.join(root, f)
            if f.endswith('.script'):
                found[f] = open(p, newline='').read()
            elif f == 'defaultbc':
                active = os.readlink(p)
    return found, active


def diff(a, b, most=12):
    """Lines that say where two images differ; none: they are equal."""
    out = ['%s: %s / %s' % (k, a.get(k), b.get(k)) for k in sorted(set(a) | set(b), key=str) if a.get(k) != b.get(k)]
    return out[:most] + (['… %d more' % (len(out) - most)] if len(out) > most else [])


# ---- TAP ----

class Tap:
    def __init__(self):
        self.n, self.failed = 0, 0

    def ok(self, good, what, *why):
        self.n += 1
        if not good:
            self.failed += 1
            for w in why:
                print('\n'.join('# %s' % (l,) for l in (w if isinstance(w, list) else str(w)[-4000:].splitlines())))
        print('%sok %d - %s' % ('' if good else 'not ', self.n, what), flush=True)
        return good

    def same(self, a, b, users, what, adjust=None):
        """adjust: gets both images, and takes out of them what is known to be otherwise."""
        def look():
            pair = image(a, users), image(b, users)
            if adjust:
                adjust(*pair)
            return pair
        first, second = look()
        d = diff(first, second)
        if d:                                   # one that is late, or one that stays? And which of them had been looked at too early?
            time.sleep(3)
            later = look()
            d += ['Three seconds later:'] + (diff(*later) or ['no difference'])
            d += ['In the first by then:'] + (diff(first, later[0]) or ['nothing']) + ['In the second:'] + (diff(second, later[1]) or ['nothing'])
        return self.ok(not d, what, d)

    def end(self):
        print('1..%d' % self.n)
        return 1 if self.failed else 0


def message(n, octets=0):
    return (b'From: a%d@example.org\r\nTo: b@example.org\r\nSubject: message %d\r\nMessage-ID: <%d.%d@example.org>\r\n\r\nBody of %d.\r\n'
            % (n, n, n, octets, n)) + (b'0123456789abcdef' * 4 + b'\r\n') * (octets // 66)
