#!/usr/bin/python3
"""sync_mode: synchronous from outside: what is answered is on the replica at that moment, whatever the command; a replica that is killed, that is stopped, and
comes back; `never`; a mailbox that cannot be replicated; kill -9 of the master under load, after each of which the replica has everything that was answered.

    t/replication/sync-mode.t [part]…       parts: latency degraded stopped never kills quarantine; SYNC_KILLS=100: so many kills instead of 5
"""
import os
import random
import re
import signal
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import repl                                     # noqa: E402
from repl import cyrd, message                  # noqa: E402

PORT = int(os.environ.get('PORTBASE', '28500'))
KILLS = int(os.environ.get('SYNC_KILLS', '5'))
USERS = ['user%d' % i for i in range(4)]
DELAY = 0.1                                     # on the way to the replica, where it is measured: without waiting nothing would be there so soon
AFTER = 2                                       # sync_degrade_after, seconds
SLOW = 4 if 'san' in os.environ.get('B', '') or 'address' in os.environ.get('B', '') or 'thread' in os.environ.get('B', '') else 1
tap = repl.Tap()


class Proxy:
    """Between master and replica, with a delay."""

    def __init__(self, port, to):
        self.to, self.delay = to, 0
        self.sock = socket.create_server(('127.0.0.1', port))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                a, _ = self.sock.accept()
            except OSError:
                return
            try:
                b = socket.create_connection(('127.0.0.1', self.to))
            except OSError:
                a.close()
                continue
            for s in (a, b):
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.copy, args=(a, b, True), daemon=True).start()
            threading.Thread(target=self.copy, args=(b, a, False), daemon=True).start()

    def copy(self, a, b, up):
        try:
            while True:
                got = a.recv(65536)
                if not got:
                    break
                if up and self.delay:
                    time.sleep(self.delay)
                b.sendall(got)
        except OSError:
            pass
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()


def status(m):
    rows = m.ctl_rows('sync')
    return rows[0] if rows else {'state': 'none', 'mode': 'none', 'lag_s': 0, 'events': 0, 'quarantined': 0, 'sync_waiting': 0}


def until(condition, seconds=20):
    end = time.monotonic() + seconds * SLOW
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def metric(m, name):
    return sum(r['value'] for r in m.ctl_rows('metrics') if r['name'] == name)


def timed(fn, *a):
    begin = time.monotonic()
    r = fn(*a)
    return r, time.monotonic() - begin


class Later(threading.Thread):
    """Something that may take long; `took` is None until it is answered."""

    def __init__(self, fn, *a):
        super().__init__(daemon=True)
        self.fn, self.a, self.result, self.took = fn, a, None, None
        self.start()

    def run(self):
        begin = time.monotonic()
        try:
            self.result = self.fn(*self.a)
        except (cyrd.Closed, OSError) as e:
            self.result = ('closed', str(e))
        self.took = time.monotonic() - begin


def subjects(node, user, box='INBOX'):
    """Of all messages there."""
    c = node.user(user)
    out = set()
    if c.cmd('EXAMINE ' + box)[0] == 'OK':
        for r in c.cmd('UID FETCH 1:* (BODY.PEEK[HEADER.FIELDS (SUBJECT)])')[2]:
            m = re.search(rb'Subject: (\S+)', r)
            if m:
                out.add(m.group(1).decode())
    c.close()
    return out


def text(subject, octets=0):
    return ('From: a@example.org\r\nSubject: %s\r\nMessage-ID: <%s@example.org>\r\n\r\nBody.\r\n' % (subject, subject)).encode() + b'0123456789abcd\r\n' * (octets // 16)


# ---- what was answered is there ----

def latency(m, s, proxy):
    """Each command, with a slow way to the replica; then how long it takes on a fast one."""
    without = status(m)['sync_without']         # while it compared everything at first, somebody may have been put off for too long
    proxy.delay = DELAY
    c, there, a, root = m.user('user0'), s.user('user0'), m.admin(), s.admin()
    commands = [
        ('APPEND', lambda: c.append('INBOX', text('first')), 'STATUS INBOX (MESSAGES)', rb'MESSAGES 1\)'),
        ('LMTP', lambda: m.deliver(['user0'], text('second')), 'STATUS INBOX (MESSAGES)', rb'MESSAGES 2\)'),
        ('CREATE', lambda: c.cmd('CREATE box'), 'LIST "" box', rb' box\r'),
        ('SUBSCRIBE', lambda: c.cmd('SUBSCRIBE box'), 'LSUB "" box', rb' box\r'),
        ('SELECT', lambda: c.cmd('SELECT INBOX'), 'NOOP', None),
        ('STORE', lambda: c.cmd('STORE 1 +FLAGS (\\Flagged)'), 'SEARCH FLAGGED', rb'SEARCH 1\r'),
        ('FETCH, which sets \\Seen', lambda: c.cmd('FETCH 2 BODY[]'), 'SEARCH SEEN', rb'SEARCH 2\r'),
        ('COPY', lambda: c.cmd('COPY 1:2 box'), 'STATUS box (MESSAGES)', rb'MESSAGES 2\)'),
        ('MOVE', lambda: c.cmd('MOVE 1 box'), 'STATUS box (MESSAGES)', rb'MESSAGES 3\)'),
        ('UID EXPUNGE', lambda: (c.cmd('STORE 1 +FLAGS.SILENT (\\Deleted)'), c.cmd('UID EXPUNGE 1:*'))[1], 'STATUS INBOX (MESSAGES)', rb'MESSAGES 0\)'),
        ('SETACL', lambda: c.cmd('SETACL box user1 lrs'), 'GETACL box', rb'user1 lrs'),
        ('SETMETADATA', lambda: c.cmd('SETMETADATA box (/shared/comment "hello")'), 'GETMETADATA box (/shared/comment)', rb'hello'),
        ('DELETEACL', lambda: c.cmd('DELETEACL box user1'), 'GETACL box', rb'^(?!.*user1)'),
        ('UNSUBSCRIBE', lambda: c.cmd('UNSUBSCRIBE box'), 'LSUB "" box', b''),
        ('RENAME', lambda: c.cmd('RENAME box other'), 'LIST "" other', rb' other\r'),
        ('CLOSE', lambda: (c.ok('SELECT other'), c.cmd('STORE 1 +FLAGS.SILENT (\\Deleted)'), c.cmd('CLOSE'))[2], 'STATUS other (MESSAGES)', rb'MESSAGES 2\)'),
        ('DELETE', lambda: c.cmd('DELETE other'), 'LIST "" other', b''),
        ('SETQUOTA', lambda: a.cmd('SETQUOTA user/user0 (STORAGE 77777)'), None, rb'77777'),
    ]
    there.ok('SELECT INBOX')
    for name, do, look, want in commands:
        (answer, took) = timed(do)
        good = str(answer[0]) == 'OK' or (isinstance(answer[0], tuple) and answer[0][0] == 250)
        if not want and want != b'':
            tap.ok(good and took < DELAY, name + ': what changes nothing does not wait', answer, took)
            continue
        if look and look.startswith('SEARCH'):
            there.ok('NOOP')
        rows = (there if look else root).cmd(look or 'GETQUOTA user/user0')[2]
        found = b''.join(r for r in rows if re.match(rb'\* (LIST|LSUB|STATUS|SEARCH|ACL|METADATA|QUOTA)', r))
        tap.ok(good and (re.search(want, found) if want else not found) and took >= DELAY, name + ': the replica has it when it is answered', answer, took, found)
    for x in (c, there, a, root):
        x.close()
    proxy.delay = 0
    c = m.user('user1')
    times = []
    for i in range(100):
        answer, took = timed(c.append, 'INBOX', text('t%d' % i))
        times.append(took)
    times.sort()
    c.close()
    print('# APPEND to both: median %.1f ms, 99 %% %.1f ms' % (times[50] * 1000, times[98] * 1000))
    tap.ok(times[50] < 0.2 * SLOW, 'it takes no longer than it has to', times[50], times[98])
    with_many = [Later(m.deliver, [USERS[i % 4]], text('many%d' % i)) for i in range(40)]
    for w in with_many:
        w.join(30)
    tap.ok(all(w.result and w.result[0][0] == 250 for w in with_many), '40 at once are answered', [w.result for w in with_many])
    have = set().union(*(subjects(s, u) for u in USERS))
    tap.ok(all('many%d' % i in have for i in range(40)), '… and are on the replica')
    tap.ok(metric(m, 'cyrd_replication_wait_seconds_count') >= 150, 'the metrics count who waited', metric(m, 'cyrd_replication_wait_seconds_count'))
    tap.ok(status(m)['mode'] == 'synchronous' and status(m)['sync_without'] == without, 'status says so', status(m))


# ---- a replica that is gone ----

def degraded(m, s, _):
    before = status(m)['degradations']
    c = m.user('user1')
    c.append('INBOX', text('d0'))
    s.kill()
    answer, took = timed(c.append, 'INBOX', text('d1'))
    tap.ok(answer[0] == 'OK' and AFTER - 0.2 <= took < AFTER + 1.5 * SLOW, 'the replica was killed: an answer after sync_degrade_after', answer, took)
    answer, took = timed(c.append, 'INBOX', text('d2'))
    tap.ok(answer[0] == 'OK' and took < 0.5 * SLOW, 'the next one does not wait', answer, took)
    answer, took = timed(m.deliver, ['user2'], text('d3'))
    tap.ok(answer[0][0] == 250 and took < 0.5 * SLOW, 'nor does LMTP', answer, took)
    st = status(m)
    tap.ok(st['mode'] == 'degraded' and st['degradations'] == before + 1 and st['sync_without'] >= 3, 'status says so', st)
    tap.ok('degraded' in m.ctl('sync', 'status')[1], 'and so does its table', m.ctl('sync', 'status')[1])
    tap.ok(metric(m, 'cyrd_replication_degraded') == 1, 'and so do the metrics')
    tap.ok('sync.degraded' in m.logged(), 'and so does the log')
    tap.ok(s.start(), 'the replica starts again')
    tap.ok(until(lambda: status(m)['mode'] == 'synchronous', 30), 'it is synchronous again', status(m))
    tap.ok(metric(m, 'cyrd_replication_degraded') == 0 and re.search(r'sync\.synchronous.*degraded_ms=[1-9]', m.logged()), 'the metrics and the log say so')
    tap.ok({'d0', 'd1', 'd2'} <= subjects(s, 'user1') and 'd3' in subjects(s, 'user2'), 'what came meanwhile is there')
    c.append('INBOX', text('d4'))
    tap.ok('d4' in subjects(s, 'user1'), 'and what comes next')
    c.close()


def stopped(m, s, _):
    """A replica that says nothing, many who wait for it, and others who do not."""
    other = m.user('user3')
    other.ok('SELECT INBOX')
    s.proc.send_signal(signal.SIGSTOP)
    try:
        waiting = [Later(m.deliver, [USERS[i % 3]], text('s%d' % i)) for i in range(60)]
        time.sleep(0.5)
        answer, took = timed(other.cmd, 'UID SEARCH ALL')
        tap.ok(answer[0] == 'OK' and took < 0.5 * SLOW, 'while 60 wait, others are served', answer, took)
        tap.ok(until(lambda: status(m)['sync_waiting'] >= 55, 1), 'they do wait', status(m))
        for w in waiting:
            w.join(AFTER + 10)
        tap.ok(all(w.result and w.result[0][0] == 250 and w.took >= AFTER - 0.3 for w in waiting), 'all are answered after that time', [(w.result, w.took) for w in waiting][:5])
    finally:
        s.proc.send_signal(signal.SIGCONT)
    tap.ok(until(lambda: status(m)['mode'] == 'synchronous', 40), 'it is synchronous again', status(m))
    have = set().union(*(subjects(s, u) for u in USERS))
    tap.ok(all('s%d' % i in have for i in range(60)), 'the replica has them')
    other.close()


def set_after(m, value):
    conf = open(m.path('imapd.conf')).read()
    m.write('imapd.conf', re.sub(r'(?m)^sync_degrade_after: .*$', 'sync_degrade_after: ' + value, conf))
    m.own()
    before = m.logged().count('reload.done')
    m.proc.send_signal(signal.SIGHUP)
    until(lambda: m.logged().count('reload.done') > before, 3)
    time.sleep(0.3)


def never(m, s, _):
    set_after(m, 'never')
    s.kill()
    c, d = m.user('user1'), m.user('user2')
    imap, lmtp = Later(c.append, 'INBOX', text('n1')), Later(m.deliver, ['user2'], text('n2'))
    gone = Later(d.append, 'INBOX', text('n3'))
    time.sleep(AFTER + 1.5)
    tap.ok(imap.took is None and lmtp.took is None and status(m)['mode'] == 'synchronous', 'never: writes wait', imap.result, lmtp.result, status(m))
    answer, took = timed(m.ctl, 'sessions')
    d.sock.shutdown(socket.SHUT_RDWR)           # a client that does not wait any longer
    gone.join(5)
    reader = m.user('user3')
    tap.ok(timed(reader.cmd, 'SELECT INBOX')[1] < 0.5 * SLOW, 'reading goes on')
    tap.ok(s.start(), 'the replica comes back')
    imap.join(20)
    lmtp.join(20)
    tap.ok(imap.result and imap.result[0] == 'OK' and lmtp.result and lmtp.result[0][0] == 250, 'and they are answered', imap.result, lmtp.result)
    tap.ok('n1' in subjects(s, 'user1') and 'n2' in subjects(s, 'user2'), 'and it has them')
    s.kill()
    late = Later(c.append, 'INBOX', text('n4'))
    late_lmtp = Later(m.deliver, ['user2'], text('n5'))
    until(lambda: status(m)['sync_waiting'] == 2, 5)
    (rc, took) = timed(m.stop)
    late.join(5)
    late_lmtp.join(5)
    tap.ok(rc == 0 and took < 10, 'a stop ends in order while some wait', rc, took)
    tap.ok(late.result and late.result[0] != 'OK' and late_lmtp.result and late_lmtp.result[0][0] not in (250,), 'who waited is not told that it is done',
           late.result, late_lmtp.result)
    tap.ok(s.start() and m.start(), 'both start')
    tap.ok(until(lambda: status(m)['state'] == 'idle' and not status(m)['events'], 20), 'and find each other', status(m))
    tap.ok('n4' in subjects(s, 'user1'), 'what was not answered is there all the same')
    set_after(m, '%ds' % AFTER)
    for x in (c, reader):
        x.close()


def quarantine(m, s, _):
    """The same name is another mailbox on the replica."""
    there = s.admin()
    there.ok('CREATE user/user1/poison')
    there.ok('SETACL user/user1/poison admin lrswipkxtecda')
    there.append('user/user1/poison', message(1))
    before = status(m)['sync_without']
    c, d = m.user('user1'), m.user('user2')
    (answer, took) = timed(c.cmd, 'CREATE poison')
    tap.ok(answer[0] == 'OK' and until(lambda: status(m)['quarantined'] > 0), 'it is quarantined', answer, took, status(m))
    answer, took = timed(c.append, 'poison', message(2))
    tap.ok(answer[0] == 'OK' and took < AFTER and status(m)['sync_without'] > before, 'answered without it, at once, and counted', answer, took, status(m))
    tap.ok(status(m)['mode'] == 'synchronous', 'which degrades nobody else')
    d.append('INBOX', text('q1'))
    c.append('INBOX', text('q2'))
    tap.ok('q1' in subjects(s, 'user2') and 'q2' in subjects(s, 'user1'), 'all other mailboxes are as before, his own too')
    set_after(m, 'never')
    answer, took = timed(c.append, 'poison', message(3))
    tap.ok(answer[0] == 'NO' and 'UNAVAILABLE' in answer[1] and took < 5, 'never: an error', answer, took)
    a = m.admin()
    a.cmd('SETACL user/user1/poison anyone p')     # answered with an error, for the same reason; done all the same
    answer, took = timed(m.deliver, ['user1+poison', 'user2'], text('q3'))
    tap.ok(answer[0][0] == 451 and answer[1][0] == 250, 'never: 451 for that recipient, 250 for the other', answer, took)
    answer = c.append('INBOX', text('q4'))
    tap.ok(answer[0] == 'OK' and 'q4' in subjects(s, 'user1'), 'never: his other mailboxes', answer)
    there.ok('DELETE user/user1/poison')
    m.ctl('sync', 'retry')
    tap.ok(until(lambda: status(m)['quarantined'] == 0), 'it comes out when it is well', status(m))
    answer = m.deliver(['user1+poison'], text('q3'))
    tap.ok(answer[0][0] == 250 and 'q3' in subjects(s, 'user1', 'poison'), 'who comes again is told it is done, and it is', answer)
    set_after(m, '%ds' % AFTER)
    for x in (there, c, d, a):
        x.close()


# ---- kill -9 ----

class Writers:
    """What they were told is done: (user, mailbox, subject)."""

    def __init__(self, m, seed):
        self.m, self.on, self.acked, self.made, self.errors = m, True, [], [], []
        self.threads = [threading.Thread(target=self.run, args=(i, seed), daemon=True) for i in range(6)]
        for t in self.threads:
            t.start()

    def run(self, k, seed):
        r, n, c = random.Random(seed * 10 + k), 0, None
        user = USERS[k % 4]
        try:
            c = self.m.user(user) if k % 2 else cyrd.Lmtp(self.m.lmtp)
            while self.on:
                n += 1
                subject = 'k%d.%d.%d' % (seed, k, n)
                body = text(subject, r.choice((0, 0, 2000, 60000)))
                if not k % 2:
                    answers = c.deliver([user, USERS[(k + 1) % 4]], body)
                    for u, a in zip((user, USERS[(k + 1) % 4]), answers):
                        if a[0] == 250:
                            self.acked.append((u, 'INBOX', subject))
                        else:
                            self.errors.append(a)
                elif r.random() < 0.15:
                    if c.cmd('CREATE %s' % subject.replace('.', '-'))[0] == 'OK':
                        self.made.append((user, subject.replace('.', '-')))
                        if c.append(subject.replace('.', '-'), body)[0] == 'OK':
                            self.acked.append((user, subject.replace('.', '-'), subject))
                elif c.append('INBOX', body)[0] == 'OK':
                    self.acked.append((user, 'INBOX', subject))
        except (cyrd.Closed, OSError):
            pass

    def stop(self):
        self.on = False
        for t in self.threads:
            t.join(20)


def kills(m, s, _):
    total, lost = 0, []
    r = random.Random(int(os.environ.get('SEED', '1')))
    for i in range(KILLS):
        tap.ok(until(lambda: status(m)['mode'] == 'synchronous'), 'kill %d: synchronous' % (i + 1), status(m))
        before = status(m)['degradations']
        w = Writers(m, i)
        time.sleep(0.3 + r.random() * 1.2)
        was = status(m)['degradations'] - before if i % 3 == 0 else 0
        m.kill()
        w.stop()
        have = {}
        for user, box, subject in w.acked:
            if (user, box) not in have:
                have[user, box] = subjects(s, user, box)
            if subject not in have[user, box]:
                lost.append((i, user, box, subject))
        total += len(w.acked)
        tap.ok(not w.errors and was == 0, 'kill %d: no errors, not degraded' % (i + 1), w.errors[:3], was)
        tap.ok(not lost, 'kill %d: the replica has each of %d messages that were answered' % (i + 1, len(w.acked)), lost[:5])
        tap.ok(m.start(), 'kill %d: the master starts' % (i + 1))
    print('# %d kills, %d messages answered, %d lost' % (KILLS, total, len(lost)))
    tap.ok(until(lambda: status(m)['state'] == 'idle' and not status(m)['events'] and not status(m)['comparing'] and not status(m)['put_off'], 60), 'after all, it compares', status(m))
    tap.ok(total > 5 * KILLS, 'there was something to lose', total)
    # A mailbox that settles at its first opening after a kill has a higher modseq from then on; that may be after the comparing.
    rows = [r for r in m.ctl_rows('sync', 'verify') if r.get('differs') not in (None, 'highestmodseq')]
    tap.ok(not rows, 'and both are the same', rows[:5])


def main():
    d = cyrd.scratch('sync-mode')
    options = ('sync_log: yes\nsync_host: 127.0.0.1\nsync_port: %d\nsync_try_imap: no\nsync_authname: %s\nsync_password: %s\n'
               'sync_reconnect_maxwait: 1s\nsync_mode: synchronous\nsync_degrade_after: %ds\n' % (PORT + 40, repl.AUTH, repl.PASSWORD, AFTER))
    m = repl.Cyrd(os.path.join(d, 'm'), PORT, options=options)
    s = repl.Cyrd(os.path.join(d, 's'), PORT + 20)
    conf = open(m.path('cyrus.conf')).read()
    m.write('cyrus.conf', conf.replace('EVENTS {', 'DAEMON {\n  sync cmd="sync_client -r"\n}\nEVENTS {'))
    m.own()
    proxy = Proxy(PORT + 40, s.csync)
    parts = {'latency': latency, 'degraded': degraded, 'stopped': stopped, 'never': never, 'kills': kills, 'quarantine': quarantine}
    try:
        if tap.ok(s.start() and m.start(), 'both start'):
            a = m.admin()
            for u in USERS:
                a.ok('CREATE user/' + u)
            a.close()
            tap.ok(until(lambda: status(m)['mode'] == 'synchronous' and not status(m)['comparing'] and not status(m)['put_off']), 'it becomes synchronous', status(m))
            for name in sys.argv[1:] or parts:
                print('# ' + name)
                parts[name](m, s, proxy)
            tap.ok(m.stop() == 0, 'a clean stop')
    finally:
        if s.alive():
            s.proc.send_signal(signal.SIGCONT)
        m.kill()
        s.stop()
        proxy.sock.close()
        if tap.failed or os.environ.get('KEEP'):
            print('# the directory is kept: ' + d)
        else:
            repl.shutil.rmtree(d, ignore_errors=True)
    return tap.end()


sys.exit(main())
