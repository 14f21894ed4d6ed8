#!/usr/bin/env python3
"""migrate_walk.py (PORT, USERS, MESSAGES in the environment): a real Cyrus site moves to cyrd and back, as man/cyrd-migration.7 says, every example of which is run here, while mail
keeps arriving by LMTP, flags keep changing, and mbsync looks in: nothing lost, UIDs and UIDVALIDITY as they were, nothing fetched anew, nothing there twice.

Clients and mail use one address (a proxy), which at first is Cyrus's. After each leg everything is compared over IMAP between both servers.
"""
import glob
import os
import random
import re
import socket
import subprocess
import sys
import threading
import time

here = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(here, '..', 'replication'), os.path.join(here, '..', 'lib')]
import cyrd                                     # noqa: E402
import guide                                    # noqa: E402
import repl                                     # noqa: E402

PORT = int(os.environ['PORT'])
NUSERS, NMESSAGES = int(os.environ.get('USERS', '4')), int(os.environ.get('MESSAGES', '300'))
USERS = ['user%d' % i for i in range(1, NUSERS + 1)]
PER_USER = NMESSAGES // NUSERS
MBSYNC_USERS = USERS[:3]
if not repl.have_cyrus():
    print('ok - skipped: no real Cyrus here, or not root')
    sys.exit(0)
tap = repl.Tap()
rnd = random.Random(1)
page = guide.Guide('cyrd-migration.7')
directory = cyrd.scratch('migrate')


class Front:
    """mail.example.org: whoever connects gets to the server that has the address. While `held` he waits, as behind a proxy."""

    def __init__(self, port):
        self.port, self.to, self.held, self.pairs = port, None, threading.Event(), []
        self.held.set()                         # set: open
        self.sock = socket.create_server(('127.0.0.1', port))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            a, _ = self.sock.accept()
            threading.Thread(target=self.serve, args=(a,), daemon=True).start()

    def serve(self, a):
        self.held.wait()
        try:
            b = socket.create_connection(('127.0.0.1', self.to))
        except OSError:
            a.close()
            return
        self.pairs.append((a, b))
        threading.Thread(target=self.copy, args=(b, a), daemon=True).start()
        self.copy(a, b)

    def copy(self, a, b):
        try:
            while True:
                got = a.recv(65536)
                if not got:
                    break
                b.sendall(got)
        except OSError:
            pass
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class Site(repl.Cyrus):
    """A Cyrus with LMTP, and a door of our own (look) that is open whatever its cyrus.conf has for clients."""

    def __init__(self, directory, port, options=''):
        super().__init__(directory, port, options)
        self.lmtp, self.door = port + 2, port + 6
        c = self.path('imapd.conf')
        self.edit('cyrus.conf', lambda t: t.replace('\n  csync cmd=', '\n  lmtp cmd="lmtpd -a -C %s" listen="127.0.0.1:%d" prefork=0\n'
                                                    '  look cmd="imapd -C %s" listen="127.0.0.1:%d" prefork=0\n  #csync cmd=' % (c, self.lmtp, c, self.door)))

    def edit(self, name, fn):
        with open(self.path(name)) as f:
            text = f.read()
        with open(self.path(name), 'w') as f:
            f.write(fn(text))

    def start(self, wait=30):
        self.proc = subprocess.Popen(['/usr/sbin/cyrmaster', '-C', self.path('imapd.conf'), '-M', self.path('cyrus.conf'), '-p', self.path('pid'), '-D'],
                                     stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        end = time.monotonic() + wait
        while time.monotonic() < end and self.proc.poll() is None:
            try:
                self.imap().close()
                return True
            except (OSError, cyrd.Closed):
                time.sleep(0.05)
        self.kill()
        return False

    def services(self, on):
        """Those for clients, and syncclient: in cyrus.conf, or commented out."""
        for name in ('imap', 'lmtp', 'syncclient'):
            self.edit('cyrus.conf', lambda t: re.sub(r'(?m)^  #?%s ' % name, '  %s%s ' % ('' if on and name != 'syncclient' else '#', name), t))

    def run(self, program, *args, timeout=3600):
        r = subprocess.run(['setpriv', '--reuid', 'cyrus', '--regid', 'mail', '--init-groups', os.path.join(repl.CYRUS, program), '-C', self.path('imapd.conf')]
                           + list(args), cwd='/', stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout)
        return r.returncode, (r.stdout + r.stderr).decode('utf-8', 'replace')

    def imap(self, **kw):
        return cyrd.Imap(self.door, **kw)


def option_block(node, name, other):
    """Lines of imapd.conf, with ports of ours; an option that is there already is replaced."""
    for line in page.lines(name):
        key, value = line.split(': ', 1)
        value = {'sync_host': '127.0.0.1', 'sync_port': str(other.csync), 'admins': 'admin repluser'}.get(key, value)
        node.edit('imapd.conf', lambda t: re.sub(r'(?m)^%s: .*\n' % key, '', t) + '%s: %s\n' % (key, value))


def entry_block(node, name, section):
    for line in page.lines(name):
        line = line.replace('listen="2005"', 'listen="127.0.0.1:%d"' % node.csync)
        if node is old:
            line = re.sub(r'cmd="(\w+)', r'cmd="\1 -C ' + node.path('imapd.conf'), line)
        if section + ' {' not in open(node.path('cyrus.conf')).read():
            node.edit('cyrus.conf', lambda t: t + section + ' {\n}\n')
        node.edit('cyrus.conf', lambda t: t.replace(section + ' {\n', '%s {\n  %s\n' % (section, line)))


def run(name, again=0):
    """The commands of a block, each a test."""
    for host, root, words in page.commands(name):
        for attempt in range(again + 1):
            rc, out = command(host, words)
            if rc == 0:
                break
            print('# again, after status %s: %s' % (rc, out[-600:].replace('\n', '\n# ')))
            time.sleep(1)
        tap.ok(rc == 0, '%s: %s %s' % (name, host, ' '.join(words)), out[-3000:])


def command(host, words):
    node = {'old': old, 'new': new, 'mta': None}[host]
    if words[0] == 'systemctl':
        verb, unit = words[1], words[2]
        if node is None:
            return 0, ''                        # postfix reads its configuration, which has been changed by then
        assert unit == ('cyrus-imapd' if node is old else 'cyrd')
        if verb in ('stop', 'restart'):
            rc = node.stop()
            if rc:
                return rc, 'stop'
        return (0 if verb == 'stop' or node.start() else 1), verb
    if words[:2] == ['postconf', '-e']:
        return 0, load.mail(words[2] != 'defer_transports=lmtp')
    if words[0] == 'postqueue':
        return 0, ''
    words = [w.replace('old.example.org', '127.0.0.1:%d' % old.csync).replace('/etc/', node.dir + '/').replace('user/ann', 'user/' + USERS[0])
             for w in words]
    words = [USERS[0] if w == 'ann' else w for w in words]
    if words[0] == 'cyrctl':
        rc, out = new.ctl(*words[1:], timeout=1800)
        # A real Cyrus takes FOLDERMODSEQ over where the ACL changes as well: set and set back between two runs, it keeps the former one.
        if words[1:3] == ['sync', 'verify'] and rc == 1 and re.findall(r'(\S+)\n', out.split('cyrctl:')[0])[1:] and \
           set(re.findall(r'(\S+)\n', out.split('cyrctl:')[0])[1:]) == {'foldermodseq'}:
            return 0, out
        return rc, out
    if words[0] == 'cyrd':
        r = subprocess.run(new.command() + words[1:], capture_output=True)
        return r.returncode, (r.stdout + r.stderr).decode()
    if node is new:
        rc, out, err = new.sync(*words[1:], timeout=3600)
        return rc, out + err
    return old.run(words[0], *words[1:])


class Load:
    """Mail by LMTP and flags by IMAP, at mail.example.org, for as long as this lasts. What was acknowledged is remembered."""

    def __init__(self):
        self.on, self.asleep, self.open, self.n = True, False, threading.Event(), 0
        self.idle = threading.Event()           # no delivery is under way
        self.open.set()
        self.delivered, self.unsure, self.flags, self.stored, self.managed, self.broken, self.failed = {}, set(), {}, 0, 0, 0, []
        self.pending = {}                       # asked for last: done or not where the connection was lost before the answer
        self.threads = [threading.Thread(target=self.guarded, args=(f, a), daemon=True)
                        for f, a in [(self.deliveries, None), (self.flagging, USERS[::2]), (self.flagging, USERS[1::2]), (self.managing, USERS[len(MBSYNC_USERS):])]]
        for t in self.threads:
            t.start()

    def guarded(self, fn, arg):
        try:
            fn(arg)
        except Exception as e:                  # a test that fell silent would pass
            self.failed.append(repr(e))

    def mail(self, on):
        if on:
            self.open.set()
        else:
            self.open.clear()
            self.idle.wait(30)
        return ''

    def deliveries(self, _):
        r, l = random.Random(2), None
        while self.on:
            if not self.open.is_set():
                if l:
                    l.close()
                    l = None
                self.idle.set()
                self.open.wait(0.5)
                continue
            self.idle.clear()
            self.n += 1
            ident, to = 'new%d' % self.n, r.sample(USERS, r.choice((1, 1, 2)))
            while to and self.on:               # a transfer agent does not give up
                try:
                    l = l or cyrd.Lmtp(PORT + 41)
                    replies = l.deliver(to, message(ident, r.choice((100, 2000, 20000))))
                    for u, (code, _) in zip(list(to), replies):
                        if code == 250:
                            self.delivered.setdefault(ident, []).append(u)
                            to.remove(u)
                except (cyrd.Closed, OSError):
                    l = None
                    self.broken += 1
                    self.unsure.add(ident)
                    time.sleep(0.1)
            time.sleep(0.05)
        self.idle.set()

    def flagging(self, users):
        r, c, uids = random.Random(users[0]), None, {}
        while self.on:
            if self.asleep:
                time.sleep(0.05)
                continue
            user = r.choice(users)
            wanted = ' '.join(f for f in ('\\Seen', '\\Flagged', '\\Answered', '$Work', '$Later') if r.random() < 0.4)
            uid = r.randrange(1, PER_USER // 2)
            n = r.randrange(3, 10)
            while self.on:
                try:
                    if c is None:
                        c = cyrd.Imap(PORT + 40)
                        c.login(user)
                        c.ok('SELECT INBOX')
                    for i in range(n):
                        target = 1 + (uid + i) % (PER_USER // 2)
                        self.pending[user, target] = set(wanted.lower().split())
                        c.ok('UID STORE %d FLAGS (%s)' % (target, wanted))
                        self.flags[user, target] = set(wanted.lower().split())
                        self.stored += 1
                        time.sleep(0.01)
                    break
                except (cyrd.Closed, OSError):
                    c = None
                    self.broken += 1
                    time.sleep(0.1)
            if c:
                c.close()
            c = None
            time.sleep(0.02)

    def managing(self, users):
        """Everything else that users do; they look at the answers no more than people do. Not those whom mbsync serves: it does not like folders to be renamed."""
        r, c, n = random.Random(3), None, 0
        while self.on:
            if self.asleep:
                time.sleep(0.05)
                continue
            user, n = r.choice(users), n + 1
            box, other = 'Work/%d' % r.randrange(6), 'Work/%d' % r.randrange(6)
            friend = r.choice([u for u in USERS if u != user])
            try:
                c = cyrd.Imap(PORT + 40)
                c.login(user)
                c.cmd('CREATE ' + box)
                c.append(box, message('work%d' % n))
                c.cmd('SELECT INBOX')
                c.cmd('COPY %d:%d %s' % (1 + n % 5, 3 + n % 5, box))
                c.cmd('UNSELECT')
                for command in r.sample(['RENAME %s %s' % (box, other), 'DELETE ' + other, 'SUBSCRIBE ' + box, 'UNSUBSCRIBE ' + other, 'SETACL %s %s lrs' % (box, friend),
                                         'DELETEACL %s %s' % (box, friend), 'SETMETADATA %s (/shared/comment "%d" /private/comment "%d")' % (box, n, n),
                                         'SELECT ' + box, 'STORE 1 +FLAGS (\\Deleted $n%d)' % (n % 7), 'EXPUNGE', 'MOVE 1 ' + other, 'UNSELECT'], 6):
                    c.cmd(command)
                    time.sleep(0.02)
                c.cmd('SELECT "Other Users/%s"' % USERS[USERS.index(user) - 1])
                c.cmd('STORE %d %sFLAGS (\\Seen)' % (r.randrange(1, 20), r.choice('+-')))
                self.managed += 1
            except (cyrd.Closed, OSError):
                self.broken += 1
                time.sleep(0.1)
            if c:
                c.close()
            time.sleep(0.05)

    def quiet(self, on):
        """The hour in which nobody does anything."""
        self.asleep = on
        self.mail(not on)
        if on:
            time.sleep(4)                       # what is under way ends; Cyrus's client looks once a second

    def stop(self):
        self.on = False
        for t in self.threads:
            t.join(60)


def message(ident, size=0):
    return (b'From: a@example.org\r\nTo: b@example.org\r\nSubject: %s\r\nDate: Mon, 7 Feb 2022 21:52:25 -0800\r\nMessage-Id: <%s@example.org>\r\n\r\nText of %s.\r\n'
            % ((ident.encode(),) * 3)) + b'0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n' * (size // 64)


def fill():
    """Years of use."""
    a = old.admin()
    for u in USERS:
        a.ok('CREATE user/' + u)
        a.ok('SETQUOTA user/%s (STORAGE %d)' % (u, 1000000 + len(u)))
    a.ok('CREATE shared')
    a.ok('CREATE shared/board')
    a.ok('SETQUOTA shared (STORAGE 500000 MESSAGE 70000)')
    a.ok('SETACL shared anyone lrsp')
    a.ok('SETACL shared/board %s lrswipkxtecda' % USERS[0])
    a.ok('SETMETADATA "" (/shared/comment "the site")')
    for i, u in enumerate(USERS):
        c = old.user(u)
        boxes = {'INBOX': 60, 'Sent': 20, 'Archive': 10, 'Lists/deep/Entw&APw-rfe': 10}
        for box, share in boxes.items():
            if box != 'INBOX':
                c.ok('CREATE "%s"' % box)
            n, k = max(1, PER_USER * share // 100), 0
            while k < n:
                parts = []
                for k in range(k, min(n, k + 50)):
                    m = message('%s.%s.%d' % (u, box[0], k), rnd.choice((0, 300, 3000, 3000, 30000 if k % 10 == 0 else 0)))
                    flags = ' '.join(f for f in ('\\Seen', '\\Answered', '\\Flagged', '\\Draft', '$Old', 'NonJunk') if rnd.random() < 0.3)
                    parts += [' (%s) "%2d-%s-20%02d %02d:11:12 %s" {%d+}\r\n' % (flags, rnd.randrange(1, 28), rnd.choice(('Jan', 'Aug')), rnd.randrange(3, 24),
                                                                                 rnd.randrange(24), rnd.choice(('+0100', '-0730', '+0000')), len(m)), m]
                k += 1
                c.ok('APPEND "%s"' % box, *parts)
            if rnd.random() < 0.8:
                c.ok('SUBSCRIBE "%s"' % box)
        c.ok('SELECT INBOX')
        c.ok('UID STORE %d,%d +FLAGS (\\Deleted)' % (PER_USER // 2 + 2, PER_USER // 2 + 4))
        c.ok('EXPUNGE')
        c.ok('UID STORE 2 ANNOTATION (/comment (value.priv "mine" value.shared "ours"))')
        c.ok('COPY 1:3 Archive')
        c.cmd('SETMETADATA Archive (/shared/comment "kept" /private/comment "by \\"me\\"")')
        c.ok('CREATE Gone')
        c.append('Gone', message('gone'))
        c.ok('DELETE Gone')
        c.ok('SETACL INBOX %s lrswi' % USERS[(i + 1) % NUSERS])
        c.close()
    for i, u in enumerate(USERS):               # what others have seen
        c = old.user(u)
        c.ok('SELECT "Other Users/%s"' % USERS[i - 1])
        c.ok('STORE 1:%d +FLAGS (\\Seen)' % (3 + i % 4))
        if i == 0:
            c.append('Shared Folders/shared/board', message('board'))
        c.ok('SUBSCRIBE "Shared Folders/shared/board"')
        c.close()
    a.close()


# ---- mbsync ----

def mbsync_prepare():
    for u in MBSYNC_USERS:
        os.makedirs(os.path.join(directory, 'home', u, 'Mail'))
        with open(os.path.join(directory, 'home', u, 'mbsyncrc'), 'w') as f:
            f.write('IMAPAccount site\nHost 127.0.0.1\nPort %d\nUser %s\nPass %s\nSSLType None\nAuthMechs PLAIN LOGIN\n\nIMAPStore far\nAccount site\n\n'
                    'MaildirStore near\nPath %s/Mail/\nInbox %s/Mail/INBOX\nSubFolders Verbatim\n\n'
                    'Channel all\nFar :far:\nNear :near:\nPatterns * !"Other Users*" !"Shared Folders*"\nCreate Both\nExpunge Both\nSyncState *\n'
                    % (PORT + 40, u, cyrd.PASSWORD, os.path.join(directory, 'home', u), os.path.join(directory, 'home', u)))


def maildir(user):
    """{folder/base name: Message-ID}: a base name has the UID and does not change with flags."""
    out = {}
    for f in glob.glob(os.path.join(directory, 'home', user, 'Mail', '**', '*'), recursive=True):
        if os.path.isfile(f) and os.path.basename(os.path.dirname(f)) in ('cur', 'new'):
            with open(f, 'rb') as h:
                m = re.search(rb'(?im)^Message-Id: <([^>]*)>', h.read(4000))
            folder = os.path.relpath(os.path.dirname(os.path.dirname(f)), os.path.join(directory, 'home', user, 'Mail'))
            out[folder + '|' + os.path.basename(f).split(':')[0]] = m.group(1).decode()
    return out


def mbsync(what, nothing=False):
    """Run it for each of its users: no message that was there is gone or comes again."""
    for u in MBSYNC_USERS:
        before = maildir(u)
        r = subprocess.run(['mbsync', '-c', os.path.join(directory, 'home', u, 'mbsyncrc'), '-V', '-a'], capture_output=True,
                           env=dict(os.environ, HOME=os.path.join(directory, 'home', u)), timeout=1800)
        out = (r.stdout + r.stderr).decode('utf-8', 'replace')
        after = maildir(u)
        gone = [k for k in before if k not in after]
        ids = [(k.split('|')[0], v) for k, v in after.items() if v.split('@')[0] not in load.unsure]
        dup = len(ids) - len(set(ids))
        again = [k for k in after if k not in before and before and not after[k].startswith('new')]
        sent = re.search(r'Far: \+(\d+)', out)
        tap.ok(r.returncode == 0 and not gone and not again and not dup and (sent is None or sent.group(1) == '0'),
               'mbsync, %s: %s has %d messages, %d new' % (what, u, len(after), len(after) - len(before)), out[-1500:], gone[:5], again[:5], dup)
        if nothing:
            tap.ok(after == before, 'mbsync, %s: %s: not one' % (what, u), sorted(set(after) - set(before))[:5])


# ---- comparing ----

def nothing_lost(node, what):
    """Each message that was acknowledged is in each of its mailboxes, once; flags are as they were set last."""
    lost, twice, wrong = [], [], []
    for u in USERS:
        c = node.user(u)
        c.ok('EXAMINE INBOX')
        found, flags = {}, {}
        for r in c.ok('UID FETCH 1:* (UID FLAGS BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])')[2]:
            m = re.search(rb'UID (\d+)', r)
            i = re.search(rb'<([^>@]*)@', r)
            if m and i:
                found[i.group(1).decode()] = found.get(i.group(1).decode(), 0) + 1
                flags[int(m.group(1))] = set(re.search(rb'FLAGS \(([^)]*)\)', r).group(1).decode().lower().split()) - {'\\recent'}
        c.close()
        for ident, to in list(load.delivered.items()):
            n = found.get(ident, 0)
            if u in to and n == 0:
                lost.append((u, ident))
            if n > 1 and ident not in load.unsure:
                twice.append((u, ident, n))
        wrong += [(u, uid, sorted(want), sorted(flags.get(uid, ()))) for (who, uid), want in list(load.flags.items()) if who == u and flags.get(uid) not in (want, load.pending[u, uid])]
    tap.ok(not lost, '%s: none of %d delivered messages is lost' % (what, len(load.delivered)), lost[:10])
    tap.ok(not twice, what + ': none is there twice', twice[:10])
    tap.ok(not wrong, '%s: %d messages have the flags that were set last' % (what, len(load.flags)), wrong[:10])


def numbers(node):
    """UIDVALIDITY of each mailbox, and Message-ID by UID of each INBOX."""
    out = {}
    a = node.admin()
    for name in repl.listed(a, 'LIST "" "*"'):
        for r in a.cmd('STATUS %s (UIDVALIDITY)' % repl.quote(name))[2]:
            m = re.search(rb'UIDVALIDITY (\d+)', r)
            if m and not name.startswith('DELETED'):
                out[name] = int(m.group(1))
    a.close()
    for u in USERS:
        c = node.user(u)
        c.ok('EXAMINE INBOX')
        for r in c.ok('UID FETCH 1:* (UID BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])')[2]:
            m, i = re.search(rb'UID (\d+)', r), re.search(rb'<([^>]*)>', r)
            if m and i:
                out[u, int(m.group(1))] = i.group(1)
        c.close()
    return out


def kept(before, node, what):
    now = numbers(node)
    tap.ok(before and all(now.get(k) == v for k, v in before.items()), '%s: %d UIDs and UIDVALIDITYs are what they were' % (what, len(before)),
           [(k, v, now.get(k)) for k, v in before.items() if now.get(k) != v][:10])


def deleted(node):
    a = node.admin()
    try:
        return sorted(n for n in repl.listed(a, 'LIST "" "*"') if n.startswith('DELETED'))
    finally:
        a.close()


def same(one, other, what):
    for i in one, other:                        # Cyrus's LSUB leaves out what is not there
        for key in list(i):
            if key[0] == 'subscribed':
                i[key] = [n for n in i[key] if ('mailbox', key[1], n) in i]
    d = repl.diff(one, other)
    return tap.ok(not d, what, d)


def step(text):
    print('# ---- %s (%s)' % (text, time.strftime('%H:%M:%S')), flush=True)


# ---- the move ----

os.chmod(directory, 0o755)
old = Site(os.path.join(directory, 'old'), PORT, 'autocreate_quota: -1')
new = repl.Cyrd(os.path.join(directory, 'new'), PORT + 20)
new.edit = lambda name, fn: Site.edit(new, name, fn)
new.edit('cyrus.conf', lambda t: re.sub(r'(?m)^  csync .*\n?', '', t))
front_imap, front_lmtp = Front(PORT + 40), Front(PORT + 41)
load = None
for u in USERS:                                 # mbsync logs in as itself
    for n in old, new:
        repl.add_user(n.path('conf/sasldb2'), u, cyrd.PASSWORD)
old.own = lambda: subprocess.run(['chown', 'cyrus:mail', old.path('conf/sasldb2')], check=True)
old.own()

def address(node):
    front_imap.to, front_lmtp.to = node.port, node.lmtp


step('a site with %d users and %d messages' % (NUSERS, NMESSAGES))
assert tap.ok(old.start(), 'Cyrus starts')
fill()
address(old)
load = Load()
mbsync_prepare()
mbsync('everything for the first time')
before = numbers(old)

step('rolling')
option_block(new, 'new imapd.conf', old)
entry_block(new, 'new cyrus.conf SERVICES', 'SERVICES')
new.own()
run('check')
run('start')
option_block(old, 'old imapd.conf', new)
entry_block(old, 'old cyrus.conf DAEMON', 'DAEMON')
entry_block(old, 'old cyrus.conf SERVICES', 'SERVICES')
run('roll')
step('everything once')
run('copy', again=3)
run('rest')
time.sleep(2)
mbsync('while it is copied')
step('verify')
load.quiet(True)
run('verify', again=2)
image = repl.image(old, USERS)
same(repl.image(new, USERS), image, 'Cyrus to cyrd, rolling: everything is the same over IMAP, %d values' % len(image))
tap.ok(deleted(old) == deleted(new), 'mailboxes that are deleted, too: %d' % len(deleted(old)), deleted(old), deleted(new))
load.quiet(False)
run('again')

step('cut-over')
began = time.monotonic()
run('hold')
front_imap.held.clear()
front_lmtp.held.clear()
run('last')
took = time.monotonic() - began
# With nobody at either server: all of it.
new_image = repl.image(new, USERS)
assert tap.ok(old.start(), 'the old server once more, for a look that no client gets')
same(repl.image(old, USERS), new_image, 'Cyrus to cyrd: everything is the same over IMAP, %d values' % len(new_image))
tap.ok(deleted(old) == deleted(new), 'mailboxes that are deleted, too: %d' % len(deleted(old)), deleted(old), deleted(new))
old.stop()
nothing_lost(new, 'after the cut-over')
kept(before, new, 'after the cut-over')
address(new)
for f in front_imap, front_lmtp:
    f.held.set()
before_n = len(load.delivered)
stored_n = load.stored
run('release')
print('# the address was away for %.1f seconds, but for what the test looked at' % took)
tap.ok(took < 60, 'the cut-over takes seconds')
mbsync('after the cut-over')

step('the way back')
old.services(False)
run('back rolling', again=3)
entry_block(new, 'new cyrus.conf DAEMON', 'DAEMON')
time.sleep(3)
tap.ok(len(load.delivered) > before_n and load.stored > stored_n, 'mail arrives and flags change there: %d, %d' % (len(load.delivered) - before_n, load.stored - stored_n))
mbsync('at the new server')
load.mail(False)
front_imap.held.clear()
for a, b in front_imap.pairs:                   # clients go
    for s in a, b:
        try:
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
time.sleep(0.5)
rc, out = new.ctl('sync', 'now')
tap.ok(rc == 0, 'all is replicated', out)
image = repl.image(new, USERS)
same(image, repl.image(old, USERS), 'cyrd to Cyrus, rolling: everything is the same over IMAP, %d values' % len(image))
tap.ok(deleted(old) == deleted(new), 'mailboxes that are deleted, too: %d' % len(deleted(new)), deleted(new), deleted(old))
run('back verify')
nothing_lost(old, 'at the old server')
front_imap.held.set()
load.mail(True)
time.sleep(1)

step('back')
before = numbers(new)
load.mail(False)
front_imap.held.clear()
run('back last')
errors = [l for l in new.logged().splitlines() if ' error ' in l]
tap.ok(not errors, 'cyrd has logged no error', '\n'.join(errors))
old.services(True)
run('back')
address(old)
image = repl.image(old, USERS)
assert tap.ok(new.start(), 'cyrd once more, for a look')
same(image, repl.image(new, USERS), 'and back at Cyrus: everything is the same, %d values' % len(image))
new.stop()
nothing_lost(old, 'back')
kept(before, old, 'back')
front_imap.held.set()
load.mail(True)
time.sleep(1)
load.stop()
mbsync('back')
mbsync('once more, with nothing new', nothing=True)
nothing_lost(old, 'at the end')
tap.ok(not load.failed and load.managed > 5, 'clients met nothing but lost connections', load.failed)
print('# %d messages delivered, %d flags set, %d times other things done, %d connections lost, %d deliveries not answered' % (len(load.delivered), load.stored, load.managed, load.broken, len(load.unsure)))
rc, text = new.ctl('check')
tap.ok(rc == 0, 'cyrctl check', text)
tap.ok(not page.unused(), 'every example of cyrd-migration(7) was run', page.unused())
old.stop()
if tap.failed or os.environ.get('KEEP'):
    print('# the directory is kept: ' + directory)
else:
    repl.shutil.rmtree(directory, ignore_errors=True)
sys.exit(tap.end())
