"""others - the part of t/authz/run that is not IMAP: POP3, LMTP and cyrctl's socket, each command by each kind of identity."""
import base64
import json
import os
import pwd
import socket

import cyrd
import model
from cyrd import Lmtp, Stream


class Pop3(Stream):
    def __init__(self, port):
        super().__init__(port)
        self.greeting = self.line()

    def ask(self, text):
        self.send(text.encode() + b'\r\n')
        return self.line()

    def many(self, text):
        """A reply of several lines."""
        first = self.ask(text)
        while first.startswith(b'+OK') and self.line() != b'.\r\n':
            pass
        return first

    def login(self, user, by, password=cyrd.PASSWORD):
        plain = b'%s\0%s\0%s' % (user.encode(), by.encode(), password.encode())
        return self.ask('AUTH PLAIN ' + base64.b64encode(plain).decode())


TEXT = {'LIST': 'LIST', 'UIDL': 'UIDL', 'RETR': 'RETR 1', 'TOP': 'TOP 1 0', 'DELE': 'DELE 1', 'USER': 'USER x', 'PASS': 'PASS x', 'AUTH': 'AUTH PLAIN AAA='}
MANY = {'LIST', 'UIDL', 'RETR', 'TOP', 'CAPA'}


def pop3(tap, daemon, port, table, login, message):
    """With popuseacl, rights on one's own INBOX count; k, a and their like cannot be lost."""
    def tried(p, command):
        text = TEXT.get(command, command)
        return (p.many if command in MANY else p.ask)(text).startswith(b'+OK')

    p = Pop3(port)
    after = [c for c in table if not int(table[c]['states']) & 1]
    bad = [c for c in after if tried(p, c)]
    tap.ok(len(after) > 5 and not bad, 'POP3: before a log-in nothing of the mailbox', bad)
    p.close()
    user = 'popper'
    c = login(user)
    c.append('INBOX', message)
    for lost in ('', 'r', 't', 's', 'w', 'lrswipkxtean'):
        have = set(model.ALL) - set(lost) | model.OWNER
        c.ok('SETACL INBOX %s %s' % (user, ''.join(sorted(have))))
        c.ok('SETACL INBOX -%s "%s"' % (user, ''.join(sorted(set(lost) - {'a'}))))
        for kind, acting, expected in (('himself', user, True), ('an admin for him', 'admin', True), ('a proxyserver for him', 'proxy', True),
                                       ('somebody else for him', 'stranger', False)):
            name = 'POP3: %s, who lacks "%s"' % (kind, lost)
            p = Pop3(port)
            allowed = expected and 'r' in have
            got = p.login(user, acting).startswith(b'+OK')
            if not allowed or not got:
                tap.ok(got == allowed, name + ': a log-in is refused' if not allowed else name)
                p.close()
                continue
            wrong = []
            for command in sorted(table, key=lambda n: (n in ('DELE', 'QUIT'), n)):
                want = bool(int(table[command]['states']) & 2) and set(model.POP3[command] or '') <= have
                if command == 'QUIT':
                    p.ask('RSET')               # what was to be deleted is not
                if tried(p, command) != want:
                    wrong.append('%s: %s' % (command, 'refused' if want else 'done'))
            p.close()
            tap.ok(not wrong, name + ': every command as the model says', '\n'.join(wrong))
        c.close()
        c = login(user)
    p = Pop3(port)
    tap.ok(p.login('admin', 'admin').startswith(b'-ERR'), 'POP3: an admin has no INBOX to read')
    p.close()
    c.close()


def lmtp(tap, daemon, trusted, closed, table):
    """On the port that asks for it, mail is taken only from the service's admins."""
    arguments = {'LHLO': 'LHLO x', 'MAIL': 'MAIL FROM:<>', 'RCPT': 'RCPT TO:<owner>', 'AUTH': 'AUTH X', 'VRFY': 'VRFY owner'}

    def plain(user, by=None):
        return 'AUTH PLAIN ' + base64.b64encode(b'%s\0%s\0%s' % (user.encode() if by else b'', (by or user).encode(), cyrd.PASSWORD.encode())).decode()

    def refused(c):
        return [n for n in table if model.LMTP.get(n, True) and c.talk(arguments.get(n, n))[0] not in (430, 530)]
    for who, auth in (('nobody', None), ('an ordinary user', plain('stranger')), ('a proxyserver', plain('proxy')),
                      ('a proxyserver for a user', plain('owner', 'proxy')), ('an admin for a user', plain('owner', 'admin'))):
        c = Lmtp(closed)
        code = c.talk(auth)[0] if auth else 0
        bad = refused(c)
        tap.ok(code != 235 and not bad, 'LMTP: %s may not deliver' % who, (code, bad))
        c.close()
    c = Lmtp(closed)
    code = c.talk(plain('admin'))[0]
    tap.ok(code == 235 and c.talk('MAIL FROM:<>')[0] == 250, 'LMTP: an admin may', code)
    c.close()
    # Which mailboxes there are is nobody's business who merely sends mail.
    c = Lmtp(trusted)
    c.talk('MAIL FROM:<>')
    answers = {n: c.talk('RCPT TO:<%s>' % n)[1].replace(n, 'NAME') for n in
               ('+Team', '+Vault', '+Vapor', '+DELETED/user/owner/Gone', '+Absent/x', 'owner+Secret', 'owner+Absent')}
    c.close()
    tap.ok(len({answers[n] for n in answers if n[0] == '+'}) == 1, 'LMTP: a shared mailbox that takes no mail is answered as one that is not there', answers)
    tap.ok(answers['owner+Secret'] == answers['owner+Absent'], 'LMTP: likewise a user\'s folder', answers)


def sync(tap, port, table):
    """csync: whoever is no admin may do nothing, with every command of the table."""
    def ask(c, line):
        c.send(line.encode() + b'\r\n')
        return c.line().rstrip().decode()

    def plain(user, by=None):
        return 'AUTHENTICATE PLAIN ' + base64.b64encode(b'%s\0%s\0%s' % (user.encode() if by else b'', (by or user).encode(), cyrd.PASSWORD.encode())).decode()
    tap.ok(all(row['admin'] == '1' for row in table.values()) and len(table) > 30, 'csync: every row is an admin\'s', table)
    for who, auth, want in (('nobody', None, 'NO Please authenticate first'), ('an ordinary user', plain('stranger'), 'NO Permission denied'),
                            ('a proxyserver', plain('proxy'), 'NO Permission denied'), ('an admin for a user', plain('owner', 'admin'), 'NO Permission denied')):
        wrong = []
        for name in table:
            c = Stream(port)
            while not c.line().startswith(b'* OK'):
                pass
            if auth and not ask(c, auth).startswith('OK'):
                wrong.append('log-in')
            answer = ask(c, name.replace('/', ' ') + ' owner')
            if answer != want:
                wrong.append((name, answer))
            c.close()
        tap.ok(not wrong, 'csync: %s may do nothing' % who, wrong)


def connect_as(account, path):
    """Connects to a socket as another account: what errno says, 0 when it is let in."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
        with socket.socket(socket.AF_UNIX) as s:
            os.write(w, b'%d' % s.connect_ex(path))
        os._exit(0)
    os.close(w)
    os.waitpid(pid, 0)
    return int(os.read(r, 16) or 0)


def control(tap, daemon, table):
    """cyrctl's operations: whoever can connect may do them all, and only the daemon's own account (and root) can."""
    path = daemon.path('conf/socket/cyrctl')
    st = os.stat(path)
    tap.ok(st.st_mode & 0o177 == 0, 'cyrctl: the socket is for its owner', oct(st.st_mode))
    if os.geteuid() != 0:
        tap.ok(True, 'cyrctl: another account # SKIP needs root')
        return
    other = next(pw for pw in pwd.getpwall() if pw.pw_uid not in (0, st.st_uid) and pw.pw_name not in ('cyrus',))
    tap.ok(connect_as(other, path) == 13, 'cyrctl: another account of the machine cannot connect')
    tap.ok(connect_as(pwd.getpwuid(st.st_uid), path) == 0, 'cyrctl: the daemon\'s own can')
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(30)
    s.connect(path)
    f = s.makefile('rwb')
    bad = []
    for op in sorted(set(table) & model.CONTROL_READS):
        f.write(json.dumps({'op': op, 'args': {}}).encode() + b'\n')
        f.flush()
        while True:
            reply = json.loads(f.readline())
            if 'ok' in reply:
                break
        if reply.get('code') == 'perm':         # nobody asks for more than the connection
            bad.append((op, reply))
    s.close()
    tap.ok(not bad, 'cyrctl: every operation is for whoever could connect', bad)
