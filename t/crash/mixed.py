"""mixed - clients that load a daemon with every operation that changes mailboxes, and know what must be there after a crash.

Each client has a namespace of its own (user kN, and kNb for deliveries to two recipients) and one operation in flight. It keeps the
state that was acknowledged, and while an operation is in flight every state that it may lead to: before, after, nothing between.
A message is (name, flags, sha1 of its octets). A UID that the client was not told is None: any UID not below UIDNEXT will do.
All clients deliver to the mailbox of user "pool", where commits are shared.
"""
import collections
import hashlib
import random
import re
import threading
import time
import sys
import os

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
from cyrd import Closed, Imap, Lmtp  # noqa: E402

FLAGS = ['\\Seen', '\\Answered', '\\Flagged', '\\Draft', '$Forwarded', 'blue']
BOXES, MESSAGES, POOL = 6, 40, 'pool'


class Box:
    """An acknowledged mailbox: msgs is [(uid or None, message)] in the order of UIDs."""
    def __init__(self, uidvalidity=None):
        self.uidvalidity, self.msgs = uidvalidity, []
        self.uidnext = self.modseq = 1          # lower bounds: what a client was shown
        self.known = {}                         # every uid ever seen -> name

    def copy(self):
        b = Box(self.uidvalidity)
        b.msgs, b.uidnext, b.modseq, b.known = list(self.msgs), self.uidnext, self.modseq, self.known
        return b

    def told(self, uid, name):
        if self.known.setdefault(uid, name) != name:
            raise Wrong('UID %d was %s and is %s' % (uid, self.known[uid], name))
        self.uidnext = max(self.uidnext, uid + 1)


class Wrong(Exception):
    pass


def copy_state(state):
    return {name: box.copy() for name, box in state.items()}


def parse_set(text):
    uids = []
    for part in text.split(','):
        a, _, b = part.partition(':')
        uids += range(int(a), int(b or a) + 1)
    return uids


def make_message(name, rng, size):
    body = ''.join(rng.choice('abcdefghijklmnopqrstuvwxyz      ') for _ in range(64))
    lines = (('%s %d\r\n' % (body, i)) for i in range(size // 68 + 1))
    return ('X-Id: %s\r\nFrom: a@example.org\r\nTo: b@example.org\r\nSubject: %s\r\nMessage-ID: <%s@example.org>\r\n'
            'Date: Sun, 1 Nov 2026 10:00:00 +0000\r\n\r\n' % (name, name, name) + ''.join(lines)).encode()


def digest(octets):
    """What LMTP puts in front (Return-Path, Received) is not the message's."""
    i = octets.find(b'X-Id:')
    return hashlib.sha1(octets[i:] if i > 0 else octets).hexdigest()


FETCH = re.compile(rb'^\* (\d+) FETCH \(')


def read_fetch(r):
    """(uid, modseq, flags, name, sha1) of one FETCH response."""
    lit = re.search(rb'BODY\[\] (?:\{(\d+)\}\r\n|""|NIL)', r)
    body, rest = b'', r
    if lit and lit.group(1):
        start = lit.end()
        body = r[start:start + int(lit.group(1))]
        rest = r[:lit.start()] + r[start + len(body):]
    uid = int(re.search(rb'UID (\d+)', rest).group(1))
    m = re.search(rb'MODSEQ \((\d+)\)', rest)
    flags = re.search(rb'FLAGS \(([^)]*)\)', rest).group(1).decode().split()
    x = re.search(rb'X-Id: (\S+)', body)
    size = re.search(rb'RFC822.SIZE (\d+)', rest)
    if size and int(size.group(1)) != len(body):
        raise Wrong('UID %d: RFC822.SIZE %s, body of %d octets' % (uid, size.group(1), len(body)))
    return uid, int(m.group(1)) if m else 0, frozenset(f for f in flags if f != '\\Recent'), x.group(1).decode() if x else '?', digest(body)


def number(code, untagged, text=''):
    for r in [u.decode('utf-8', 'replace') for u in untagged] + [text]:
        m = re.search(r'\[%s (\d+)' % code, r)
        if m:
            return int(m.group(1))
    return None


def observe(daemon, user, timeout=60):
    """All mailboxes of a user as they are: {name: Box}."""
    c = daemon.user(user, timeout=timeout)
    seen = {}
    for r in c.ok('LIST "" "*"')[2]:
        m = re.match(rb'\* LIST \(([^)]*)\) (?:"."|NIL) "?([^"\r\n]*)"?\r\n', r)
        if not m or b'\\NonExistent' in m.group(1) or b'\\Noselect' in m.group(1) or m.group(2).startswith((b'Other Users', b'Shared')):
            continue
        name = m.group(2).decode()
        _, text, untagged = c.ok('EXAMINE "%s"' % name)
        box = Box(number('UIDVALIDITY', untagged))
        box.uidnext, box.modseq = number('UIDNEXT', untagged), number('HIGHESTMODSEQ', untagged) or 1
        exists = [int(u.split()[1]) for u in untagged if u.rstrip().endswith(b'EXISTS')]
        for u in c.ok('UID FETCH 1:* (UID FLAGS MODSEQ RFC822.SIZE BODY.PEEK[])')[2]:
            if FETCH.match(u):
                uid, modseq, flags, ident, sha = read_fetch(u)
                if modseq > box.modseq:
                    raise Wrong('%s: UID %d has modseq %d, HIGHESTMODSEQ is %d' % (name, uid, modseq, box.modseq))
                if uid >= box.uidnext or (box.msgs and uid <= box.msgs[-1][0]):
                    raise Wrong('%s: UID %d out of order, UIDNEXT is %d' % (name, uid, box.uidnext))
                box.msgs.append((uid, (ident, flags, sha)))
        if exists != [len(box.msgs)]:
            raise Wrong('%s: EXISTS %s, %d messages' % (name, exists, len(box.msgs)))
        seen[name] = box
    c.close()
    return seen


def difference(state, seen, former={}):
    """Why `seen` is not `state`; None when it is. former: {name of a message: flags that it may have instead}."""
    if set(state) != set(seen):
        return 'mailboxes: missing %s, too many %s' % (sorted(set(state) - set(seen)), sorted(set(seen) - set(state)))
    for name in sorted(state):
        want, got = state[name], seen[name]
        if want.uidvalidity and want.uidvalidity != got.uidvalidity:
            return '%s: UIDVALIDITY was %d and is %d' % (name, want.uidvalidity, got.uidvalidity)
        if got.uidnext < want.uidnext or got.modseq < want.modseq:
            return '%s: UIDNEXT was %d and is %d, HIGHESTMODSEQ was %d and is %d' % (name, want.uidnext, got.uidnext, want.modseq, got.modseq)
        for uid, m in got.msgs:
            if want.known.get(uid, m[0]) != m[0]:
                return '%s: UID %d was %s and is %s: reused' % (name, uid, want.known[uid], m[0])
        if len(want.msgs) != len(got.msgs):
            names_w, names_g = [m[0] for _, m in want.msgs], [m[0] for _, m in got.msgs]
            return '%s: %d messages expected, %d there; missing %s, too many %s' % (
                name, len(want.msgs), len(got.msgs), [n for n in names_w if n not in names_g][:8], [n for n in names_g if n not in names_w][:8])
        for (wu, wm), (gu, gm) in zip(want.msgs, got.msgs):
            if (wu is not None and wu != gu) or (wu is None and gu in want.known and want.known[gu] != wm[0]):
                return '%s: UID %s expected, %d found (%s)' % (name, wu, gu, gm[0])
            if wm != gm and not (wm[0] == gm[0] and wm[2] == gm[2] and gm[1] in former.get(wm[0], ())):
                return '%s: UID %d: %s expected, %s found' % (name, gu, [wm[0], sorted(wm[1]), wm[2][:8]], [gm[0], sorted(gm[1]), gm[2][:8]])
    return None


class Client:
    def __init__(self, daemon, index, seed, blob=16384):
        self.daemon, self.index, self.blob = daemon, index, blob
        self.user, self.user2 = 'k%d' % index, 'k%db' % index
        self.rng = random.Random('%s/%d' % (seed, index))
        self.state, self.state2 = None, None    # of user and user2
        self.alts = []                          # [(state, state2)] while something is in flight
        self.pool_sure, self.pool_maybe = set(), set()
        self.tombs = {}                         # name -> highest uidvalidity of deleted mailboxes
        self.count = 0
        self.done = collections.Counter()
        self.failed = collections.Counter()
        self.history = collections.deque(maxlen=600)
        self.wrong = None
        self.refused = False                    # an operation failed (only where faults are injected)
        self.tolerant = False
        # A sync failed: the mailbox goes back to what was synced, and flag changes wait for that, a second at most. Those acknowledged before
        # this time (monotonic) must be there; None: all.
        self.lost_from = None
        self.former = collections.defaultdict(list)     # name of a message -> [(when they were changed, its flags before)]
        self.sent = collections.deque(maxlen=30)        # (when, name, octets) of acknowledged deliveries to INBOX
        self.in_flight = None                           # (name, octets, message) of a delivery to INBOX that was not acknowledged

    def note(self, text):
        self.history.append(text)

    # ---- the state and what may become of it

    def begin(self, text, *afters):
        """Something is in flight that leads to one of `afters`, (state, state2) each, or does nothing."""
        self.note('> ' + text)
        base = self.alts or [(self.state, self.state2)]
        self.alts = base + list(afters)

    def settled(self, state, state2=None, text='ok'):
        self.note('< ' + text)
        self.state = state
        self.state2 = self.state2 if state2 is None else state2
        self.alts = []

    def no(self, what, answer):
        """Refused: it must have done nothing – but only the next observation proves that."""
        self.note('< %s %s' % (answer[0], answer[1]))
        self.failed[what] += 1
        self.refused = True
        if not self.tolerant:
            raise Wrong('%s: %s %s' % (what, answer[0], answer[1]))
        raise Closed('refused')

    def verify(self, timeout=60):
        """Look at everything; what is there becomes the state. Raises Wrong."""
        seen, seen2 = observe(self.daemon, self.user, timeout), observe(self.daemon, self.user2, timeout)
        alts = self.alts or [(self.state, self.state2)]
        whys = []
        former = {} if self.lost_from is None else {name: [flags for when, flags in changes if when >= self.lost_from]
                                                    for name, changes in self.former.items()}
        for state, state2 in alts:
            why = difference(state, seen, former) or difference(state2, seen2)
            if why is None:
                break
            whys.append(why)
        else:
            raise Wrong('%s: none of %d states: %s' % (self.user, len(alts), ' | '.join(whys)))
        for name, box in seen.items():
            if name in self.tombs and name not in self.state and box.uidvalidity <= self.tombs[name]:
                raise Wrong('%s: UIDVALIDITY %d, a deleted one had %d' % (name, box.uidvalidity, self.tombs[name]))
        for was, now in ((state, seen), (state2, seen2)):
            for name, box in now.items():
                if name in was:
                    box.known = was[name].known
                for uid, m in box.msgs:
                    box.told(uid, m[0])
        self.state, self.state2, self.alts = seen, seen2, []
        self.note('= verified: ' + ', '.join('%s %d msgs uidnext %d modseq %d' % (n, len(b.msgs), b.uidnext, b.modseq) for n, b in seen.items()))

    def keep_flags(self, box, uids):
        now = time.monotonic()
        for uid, m in box.msgs:
            if uid in uids:
                self.former[m[0]].append((now, m[1]))

    # ---- a life

    def connect(self):
        self.imap = self.daemon.user(self.user)
        self.lmtp = Lmtp(self.daemon.lmtp)
        self.selected = None

    def setup(self):
        """The INBOXes exist from now on."""
        for u in (self.user, self.user2):
            self.daemon.user(u).close()
        self.state, self.state2 = observe(self.daemon, self.user), observe(self.daemon, self.user2)

    def run(self, stop=None, operations=None):
        """Operate until the daemon is gone (or `stop` is set, or so many are done). Anything wrong is left in self.wrong."""
        try:
            try:
                self.connect()
            except AssertionError as e:         # not logged in
                self.no('login', ('NO', str(e)))
            if self.in_flight:
                self.retry()
            while not (stop and stop.is_set()) and operations != 0:
                self.step()
                operations = operations - 1 if operations else None
        except Closed as e:
            self.note('! ' + str(e))
            # What was delivered just now may not be remembered.
            self.sent = collections.deque((x for x in self.sent if x[0] < time.monotonic() - 1), maxlen=30)
        except (Wrong, AssertionError) as e:
            self.note('! ' + str(e))
            self.wrong = '%s: %s' % (self.user, e)
        finally:
            for c in (getattr(self, 'imap', None), getattr(self, 'lmtp', None)):
                if c:
                    c.close()

    def start(self, stop=None, operations=None):
        t = threading.Thread(target=self.run, args=(stop, operations), daemon=True)
        t.start()
        return t

    OPS = (('append', 26), ('lmtp', 14), ('lmtp_two', 6), ('resend', 6), ('pool', 8), ('store', 18), ('copy', 8), ('move', 8), ('expunge', 10), ('replace', 6),
           ('create', 4), ('rename', 4), ('delete', 2))

    def step(self):
        r = self.rng.randrange(sum(w for _, w in self.OPS))
        for what, weight in self.OPS:
            if r < weight:
                break
            r -= weight
        if getattr(self, 'op_' + what)() is not False:
            self.done[what] += 1

    def new_message(self):
        self.count += 1
        name = '%s-%d' % (self.user, self.count)
        x = self.rng.random()
        size = self.rng.randrange(100, 3000) if x < 0.7 else self.rng.randrange(3000, self.blob) if x < 0.9 else \
            self.rng.randrange(self.blob, 4 * self.blob)
        m = make_message(name, self.rng, size)
        return name, m, hashlib.sha1(m).hexdigest()

    def box(self, least=0):
        names = [n for n, b in self.state.items() if len(b.msgs) >= least and all(u is not None for u, _ in b.msgs)]
        return self.rng.choice(sorted(names)) if names else None

    def select(self, name):
        if self.selected == name:
            return
        a = self.imap.cmd('SELECT "%s"' % name)
        if a[0] != 'OK':
            self.no('select', a)
        self.selected = name
        box = self.state[name]
        uv, nxt, ms = (number(k, a[2]) for k in ('UIDVALIDITY', 'UIDNEXT', 'HIGHESTMODSEQ'))
        if box.uidvalidity not in (None, uv) or nxt < box.uidnext or (ms or box.modseq) < box.modseq:
            raise Wrong('SELECT %s: UIDVALIDITY %s was %s, UIDNEXT %s was %s, HIGHESTMODSEQ %s was %s' % (
                name, uv, box.uidvalidity, nxt, box.uidnext, ms, box.modseq))
        box.uidvalidity, box.uidnext, box.modseq = uv, nxt, max(box.modseq, ms or 0)

    def heard(self, box, untagged):
        for u in untagged:
            m = re.search(rb'MODSEQ \(?(\d+)', u)
            if m:
                box.modseq = max(box.modseq, int(m.group(1)))

    def some(self, box):
        n = self.rng.choice((1, 1, 2, 3, 5, 12))
        return sorted(self.rng.sample([u for u, _ in box.msgs], min(n, len(box.msgs))))

    def add(self, state, name, msgs):
        """A copy of `state` with messages added to `name` under UIDs unknown or known: [(uid, message)]."""
        s = copy_state(state)
        s[name].msgs += msgs
        for uid, m in msgs:
            if uid:
                s[name].told(uid, m[0])
        return s

    def op_append(self):
        name = self.box()
        if len(self.state[name].msgs) >= MESSAGES:
            return self.op_expunge(name)
        ident, octets, sha = self.new_message()
        flags = frozenset(f for f in FLAGS if self.rng.random() < 0.2)
        m = (ident, flags, sha)
        self.begin('APPEND %s %s %d octets' % (name, ident, len(octets)), (self.add(self.state, name, [(None, m)]), self.state2))
        a = self.imap.append(name, octets, ' '.join(flags))
        uid = re.search(r'\[APPENDUID (\d+) (\d+)\]', a[1])
        if a[0] != 'OK':
            self.no('append', a)
        self.settled(self.add(self.state, name, [(int(uid.group(2)), m)]), None, a[1])
        return True

    def op_lmtp(self):
        if len(self.state['INBOX'].msgs) >= MESSAGES:
            return self.op_expunge('INBOX')
        ident, octets, sha = self.new_message()
        after = self.add(self.state, 'INBOX', [(None, (ident, frozenset(), sha))])
        self.in_flight = (ident, octets, (ident, frozenset(), sha))
        self.begin('LMTP %s %d octets' % (ident, len(octets)), (after, self.state2))
        a = self.lmtp.deliver([self.user], octets)
        if a[0][0] != 250:
            self.no('lmtp', ('%d' % a[0][0], a[0][1]))
        self.in_flight = None
        self.settled(after, None, a[0][1])
        self.sent.append((time.monotonic(), ident, octets))
        self.learn_uids()
        return True

    def op_resend(self):
        """What was delivered some time ago is taken again and dropped: duplicatesuppression."""
        if not self.sent:
            return False
        _, ident, octets = self.rng.choice(self.sent)
        twice = self.add(self.state, 'INBOX', [(None, (ident, frozenset(), hashlib.sha1(octets).hexdigest()))])
        # Where calls fail it may come twice: rather that than not at all.
        self.begin('RESEND %s' % ident, *([(twice, self.state2)] if self.tolerant else []))
        a = self.lmtp.deliver([self.user], octets)
        if a[0][0] != 250:
            self.no('resend', ('%d' % a[0][0], a[0][1]))
        if ident not in self.new_names():
            self.settled(self.state, None, a[0][1])
        elif not self.tolerant:
            raise Wrong('%s was delivered twice' % ident)
        else:
            self.settled(twice, None, a[0][1])
            self.learn_uids()
        return True

    def retry(self):
        """As an MTA does it: what was not acknowledged comes again. It must be there then, twice at worst."""
        ident, octets, m = self.in_flight
        there = any(x[0] == ident for _, x in self.state['INBOX'].msgs)
        after = self.add(self.state, 'INBOX', [(None, m)])
        self.begin('RETRY %s, %s' % (ident, 'it is there' if there else 'it is not there'), (after, self.state2))
        a = self.lmtp.deliver([self.user], octets)
        if a[0][0] != 250:
            self.no('retry', ('%d' % a[0][0], a[0][1]))
        self.in_flight = None
        if there and ident not in self.new_names():
            self.settled(self.state, None, a[0][1])
            self.done['retry suppressed'] += 1
            return
        self.settled(after, None, a[0][1])
        self.learn_uids()
        self.done['retry delivered twice' if there else 'retry delivered'] += 1

    def new_names(self):
        """Names of the messages in INBOX that we have not heard of."""
        self.selected = None
        known = [u for u, _ in self.state['INBOX'].msgs if u]
        self.select('INBOX')
        a = self.imap.cmd('UID FETCH %d:* (UID FLAGS MODSEQ BODY.PEEK[])' % (max(known) + 1 if known else 1))
        if a[0] != 'OK':
            self.no('fetch', a)
        return [n for uid, _, _, n, _ in (read_fetch(u) for u in a[2] if FETCH.match(u)) if uid not in known]

    def learn_uids(self):
        """What was delivered has got a UID: ask which."""
        self.selected = None
        box = self.state['INBOX']
        before = [u for u, _ in box.msgs if u]
        self.select('INBOX')
        a = self.imap.cmd('UID FETCH %d:* (UID FLAGS MODSEQ BODY.PEEK[])' % (max(before) + 1 if before else 1))
        if a[0] != 'OK':
            self.no('fetch', a)
        got = [read_fetch(u) for u in a[2] if FETCH.match(u)]
        got = {n: (uid, flags, sha) for uid, _, flags, n, sha in got}
        for i, (uid, m) in enumerate(box.msgs):
            if uid is None:
                if m[0] not in got:
                    raise Wrong('delivered %s is not in INBOX' % m[0])
                if (m[0], got[m[0]][1], got[m[0]][2]) != m:
                    raise Wrong('delivered %s: %s expected, %s found' % (m[0], m, got[m[0]]))
                box.msgs[i] = (got[m[0]][0], m)
                box.told(got[m[0]][0], m[0])

    def op_lmtp_two(self):
        """Two recipients: each has an answer, and a fate, of its own."""
        if len(self.state['INBOX'].msgs) >= MESSAGES or len(self.state2['INBOX'].msgs) >= MESSAGES:
            return self.drain_second() if len(self.state2['INBOX'].msgs) >= MESSAGES else self.op_expunge('INBOX')
        ident, octets, sha = self.new_message()
        m = (None, (ident, frozenset(), sha))
        one, two = self.add(self.state, 'INBOX', [m]), self.add(self.state2, 'INBOX', [m])
        self.begin('LMTP two %s %d octets' % (ident, len(octets)), (one, self.state2), (self.state, two), (one, two))
        a = self.lmtp.deliver([self.user, self.user2], octets)
        if a[0][0] != 250 or a[1][0] != 250:
            self.no('lmtp two', (str([x[0] for x in a]), str(a)))
        self.settled(one, two, str(a))
        self.learn_uids()
        return True

    def drain_second(self):
        c = self.daemon.user(self.user2)
        c.ok('SELECT INBOX')
        after = copy_state(self.state2)
        after['INBOX'].msgs = []
        half = copy_state(self.state2)
        half['INBOX'].msgs = [(u, (m[0], m[1] | {'\\Deleted'}, m[2])) for u, m in half['INBOX'].msgs]
        self.begin('empty %s' % self.user2, (self.state, half), (self.state, after))
        a = c.cmd('STORE 1:* +FLAGS.SILENT (\\Deleted)')
        a = c.cmd('EXPUNGE') if a[0] == 'OK' else a
        c.close()
        if a[0] != 'OK':
            self.no('empty', a)
        self.settled(self.state, after)
        return False

    def op_pool(self):
        ident, octets, sha = self.new_message()
        self.pool_maybe.add((ident, sha))
        a = self.lmtp.deliver([POOL], octets)
        if a[0][0] != 250:
            self.no('pool', a[0])
        self.pool_sure.add((ident, sha))
        return True

    def op_store(self):
        name = self.box(1)
        if not name:
            return False
        self.select(name)
        box = self.state[name]
        uids, flag = self.some(box), self.rng.choice(FLAGS)
        how = self.rng.choice(('+', '-', ''))

        def changed(m):
            return (m[0], m[1] | {flag} if how == '+' else m[1] - {flag} if how == '-' else frozenset([flag]), m[2])
        after = copy_state(self.state)
        after[name].msgs = [(u, changed(m) if u in uids else m) for u, m in box.msgs]
        self.begin('STORE %s %s %sFLAGS %s' % (name, uids, how, flag), (after, self.state2))
        a = self.imap.cmd('UID STORE %s %sFLAGS (%s)' % (','.join(map(str, uids)), how, flag))
        if a[0] != 'OK':
            self.no('store', a)
        self.heard(after[name], a[2])
        self.settled(after, None, a[1])
        self.keep_flags(box, uids)
        return True

    def transfer(self, verb):
        name, to = self.box(1), self.box()
        if not name or not to or to == name or len(self.state[to].msgs) >= MESSAGES:
            return False
        self.select(name)
        box = self.state[name]
        uids = self.some(box)
        msgs = [m for u, m in box.msgs if u in uids]

        def after(new):
            s = self.add(self.state, to, list(zip(new, msgs)))
            if verb == 'MOVE':
                s[name].msgs = [(u, m) for u, m in s[name].msgs if u not in uids]
            return s
        self.begin('%s %s %s to %s' % (verb, name, uids, to), (after([None] * len(uids)), self.state2))
        a = self.imap.cmd('UID %s %s "%s"' % (verb, ','.join(map(str, uids)), to))
        if a[0] != 'OK':
            self.no(verb.lower(), a)
        for text in [a[1]] + [u.decode() for u in a[2]]:
            m = re.search(r'\[COPYUID (\d+) (\S+) (\S+)\]', text)
            if m:
                source, new = parse_set(m.group(2)), parse_set(m.group(3))
                if source != uids or len(new) != len(uids):
                    raise Wrong('%s: %s, asked for %s' % (verb, text, uids))
                self.settled(after(new), None, text)
                return True
        raise Wrong('%s: no COPYUID in %s' % (verb, a))

    def op_copy(self):
        return self.transfer('COPY')

    def op_move(self):
        return self.transfer('MOVE')

    def op_replace(self):
        """A message gives way to a new one, in its mailbox or another (RFC 8508)."""
        name, to = self.box(1), self.box()
        if not name or not to or (to != name and len(self.state[to].msgs) >= MESSAGES):
            return False
        if self.rng.random() < 0.5:
            to = name
        self.select(name)
        uid = self.rng.choice([u for u, _ in self.state[name].msgs])
        ident, octets, sha = self.new_message()
        flags = frozenset(f for f in FLAGS if self.rng.random() < 0.2)
        m = (ident, flags, sha)

        def after(new):
            s = self.add(self.state, to, [(new, m)])
            s[name].msgs = [(u, x) for u, x in s[name].msgs if u != uid]
            return s
        self.begin('REPLACE %s %d in %s by %s' % (name, uid, to, ident), (after(None), self.state2))
        a = self.imap.cmd('UID REPLACE %d "%s" (%s) {%d+}\r\n' % (uid, to, ' '.join(flags), len(octets)), octets)
        if a[0] != 'OK':
            self.no('replace', a)
        new = number('APPENDUID \\d+', a[2])
        if new is None:
            raise Wrong('REPLACE: no APPENDUID in %s' % (a,))
        self.settled(after(new), None, a[1])
        return True

    def op_expunge(self, name=None):
        name = name or self.box(1)
        if not name or not self.state[name].msgs:
            return False
        self.select(name)
        box = self.state[name]
        if any(u is None for u, _ in box.msgs):
            return False
        uids = self.some(box) if len(box.msgs) < MESSAGES else [u for u, _ in box.msgs][:MESSAGES // 2]
        flagged, gone = copy_state(self.state), copy_state(self.state)
        flagged[name].msgs = [(u, (m[0], m[1] | {'\\Deleted'}, m[2]) if u in uids else m) for u, m in box.msgs]
        # EXPUNGE takes others along that were marked in a command that a crash cut off.
        every = self.rng.random() < 0.5
        gone[name].msgs = [(u, m) for u, m in box.msgs if u not in uids and not (every and '\\Deleted' in m[1])]
        text = ','.join(map(str, uids))
        self.begin('STORE %s %s \\Deleted' % (name, text), (flagged, self.state2))
        a = self.imap.cmd('UID STORE %s +FLAGS.SILENT (\\Deleted)' % text)
        if a[0] != 'OK':
            self.no('store', a)
        self.heard(flagged[name], a[2])
        gone[name].modseq = max(gone[name].modseq, flagged[name].modseq)
        self.settled(flagged, None, a[1])
        self.keep_flags(box, uids)
        self.begin('EXPUNGE %s %s' % (name, text), (gone, self.state2))
        a = self.imap.cmd('EXPUNGE' if every else 'UID EXPUNGE %s' % text)
        if a[0] != 'OK':
            self.no('expunge', a)
        self.settled(gone, None, a[1])
        return True

    def op_create(self):
        if len(self.state) >= BOXES:
            return self.op_delete()
        self.count += 1
        parent = self.box()
        name = 'b%d' % self.count if self.rng.random() < 0.7 or parent == 'INBOX' or parent.count('/') > 1 else '%s/c%d' % (parent, self.count)
        if self.rng.random() < 0.3 and self.tombs:
            name = self.rng.choice(sorted(self.tombs))
        if name in self.state:
            return False
        after = copy_state(self.state)
        after[name] = Box()
        # What lies above a mailbox may or may not be made with it; ours exist, unless an old name comes back.
        if '/' in name and name.rpartition('/')[0] not in self.state:
            return False
        self.begin('CREATE %s' % name, (after, self.state2))
        a = self.imap.cmd('CREATE "%s"' % name)
        if a[0] != 'OK':
            self.no('create', a)
        self.settled(after, None, a[1])
        self.select(name)
        if self.state[name].uidvalidity <= self.tombs.get(name, 0):
            raise Wrong('%s: UIDVALIDITY %d, a deleted one had %d' % (name, self.state[name].uidvalidity, self.tombs[name]))
        return True

    def others(self):
        return sorted(n for n in self.state if n != 'INBOX')

    def unselect(self):
        if self.selected:
            self.imap.ok('UNSELECT')
            self.selected = None

    def op_rename(self):
        if not self.others():
            return False
        name = self.rng.choice(self.others())
        self.count += 1
        to = 'r%d' % self.count
        self.unselect()
        after = {}
        for n, b in self.state.items():
            after[to + n[len(name):] if n == name or n.startswith(name + '/') else n] = b.copy()
            if n == name or n.startswith(name + '/'):
                self.tombs[n] = max(self.tombs.get(n, 0), b.uidvalidity or 0)
        self.begin('RENAME %s %s' % (name, to), (after, self.state2))
        a = self.imap.cmd('RENAME "%s" "%s"' % (name, to))
        if a[0] != 'OK':
            self.no('rename', a)
        self.settled(after, None, a[1])
        return True

    def op_delete(self):
        names = [n for n in self.others() if not any(o.startswith(n + '/') for o in self.state)]
        if not names:
            return False
        name = self.rng.choice(names)
        self.unselect()
        after = copy_state(self.state)
        self.tombs[name] = max(self.tombs.get(name, 0), after[name].uidvalidity or 0)
        del after[name]
        self.begin('DELETE %s' % name, (after, self.state2))
        a = self.imap.cmd('DELETE "%s"' % name)
        if a[0] != 'OK':
            self.no('delete', a)
        self.settled(after, None, a[1])
        return True


def verify_all(clients):
    """Verify every client's state, in threads. A list of what is wrong."""
    wrong = []

    def one(c):
        try:
            c.verify()
        except (Wrong, AssertionError, Closed) as e:
            wrong.append((c, '%s: %s' % (c.user, e)))
    threads = [threading.Thread(target=one, args=(c,)) for c in clients]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return wrong


class Pool:
    """The mailbox that everybody delivers to at once."""
    def __init__(self, daemon):
        self.daemon, self.known, self.uidvalidity, self.uidnext, self.modseq = daemon, {}, None, 1, 1
        self.emptied = set()

    def verify(self, clients):
        seen = observe(self.daemon, POOL)['INBOX']
        if self.uidvalidity not in (None, seen.uidvalidity) or seen.uidnext < self.uidnext or seen.modseq < self.modseq:
            raise Wrong('pool: UIDVALIDITY %s was %s, UIDNEXT %d was %d, HIGHESTMODSEQ %d was %d' % (
                seen.uidvalidity, self.uidvalidity, seen.uidnext, self.uidnext, seen.modseq, self.modseq))
        self.uidvalidity, self.uidnext, self.modseq = seen.uidvalidity, seen.uidnext, seen.modseq
        there = [(m[0], m[2]) for _, m in seen.msgs]
        for uid, m in seen.msgs:
            if self.known.setdefault(uid, m[0]) != m[0]:
                raise Wrong('pool: UID %d was %s and is %s' % (uid, self.known[uid], m[0]))
        if len(set(there)) != len(there):
            raise Wrong('pool: something is there twice')
        sure = set().union(*[c.pool_sure for c in clients]) - self.emptied
        maybe = set().union(*[c.pool_maybe for c in clients])
        if sure - set(there):
            raise Wrong('pool: acknowledged and not there: %s' % sorted(sure - set(there))[:10])
        if set(there) - maybe:
            raise Wrong('pool: never sent: %s' % sorted(set(there) - maybe)[:10])
        for c in clients:                       # what is there now has to stay
            c.pool_sure |= c.pool_maybe & set(there)
            c.pool_maybe = set(c.pool_sure)
        if len(there) > 200:
            c = self.daemon.user(POOL)
            c.ok('SELECT INBOX')
            c.ok('STORE 1:* +FLAGS.SILENT (\\Deleted)')
            c.ok('EXPUNGE')
            c.close()
            for x in clients:
                x.pool_sure, x.pool_maybe = set(), set()
            self.emptied = set()
