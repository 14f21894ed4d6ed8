"""Python's imaplib: a long walk through a client's commands, with what it must see at each step. Run by 60-imaplib.t."""
import datetime
import imaplib
import os
import re
import ssl
import threading
import time

IMAP, IMAPS, CA, PASSWORD = int(os.environ['IMAP']), int(os.environ['IMAPS']), os.environ['CA'], os.environ['PASSWORD']
tls = ssl.create_default_context(cafile=CA)


def ok(good, name, more=''):
    print(('ok ' if good else 'not ok ') + name, flush=True)
    if not good:
        print(repr(more), flush=True)


def equal(got, want, name):
    ok(got == want, name, (got, want))


def refused(call, name):
    try:
        got = call()
        ok(got[0] == 'NO', name, got)
    except imaplib.IMAP4.error as e:
        ok(True, name)


def login(user):
    m = imaplib.IMAP4_SSL('localhost', IMAPS, ssl_context=tls)
    m.login(user, PASSWORD)
    return m


def message(n, body=b'body\r\n', headers=b''):
    return (b'Message-ID: <walk-%d@example.org>\r\nDate: Wed, %d Jan 2025 10:00:00 +0100\r\nFrom: =?utf-8?Q?J=C3=BCrgen?= <j%d@example.org>\r\n'
            b'To: alice@example.org\r\nSubject: walk %d\r\n%s\r\n' % (n, n % 28 + 1, n, n, headers)) + body


# Before login.
m = imaplib.IMAP4('localhost', IMAP)
ok('STARTTLS' in m.capabilities and 'LOGINDISABLED' in m.capabilities, 'in clear: STARTTLS and LOGINDISABLED', m.capabilities)
refused(lambda: m.login('alice', PASSWORD), 'LOGIN in clear is refused')
equal(m.starttls(tls)[0], 'OK', 'STARTTLS')
ok('AUTH=PLAIN' in m.capabilities and 'LOGINDISABLED' not in m.capabilities, 'after it: AUTH=PLAIN, LOGIN allowed', m.capabilities)
refused(lambda: m.login('alice', 'wrong'), 'a wrong password is refused')
refused(lambda: m.login('nobody-at-all', PASSWORD), 'an unknown user is refused')
equal(m.authenticate('PLAIN', lambda _: b'\0alice\0' + PASSWORD.encode())[0], 'OK', 'AUTHENTICATE PLAIN')
ok('LOGINDISABLED' not in m.capability()[1][0].decode(), 'CAPABILITY', '')
equal(m.logout()[0], 'BYE', 'LOGOUT')
m = imaplib.IMAP4_SSL('localhost', IMAPS, ssl_context=tls)
refused(lambda: m.login_cram_md5('alice', PASSWORD), 'CRAM-MD5 is not offered and refused')
m.login('alice', PASSWORD)

# Mailboxes.
typ, boxes = m.list()
ok(typ == 'OK' and any(b'\\Sent' in b and b.endswith(b'Sent') for b in boxes), 'LIST with special uses', boxes)
equal(m.namespace()[0], 'OK', 'NAMESPACE')
for name in ('Work', 'Work/2025', '"With blank"', '&AOQA9gD8-'):
    equal(m.create(name)[0], 'OK', 'CREATE ' + name)
refused(lambda: m.create('Work'), 'CREATE of what is there')
refused(lambda: m.create('&broken'), 'CREATE with broken modified UTF-7')
refused(lambda: m.create('"a%b"'), 'CREATE with a wildcard')
equal(m.subscribe('Work')[0], 'OK', 'SUBSCRIBE')
ok(any(b.endswith(b'Work') for b in m.lsub()[1]), 'LSUB', m.lsub())
equal(m.unsubscribe('Work')[0], 'OK', 'UNSUBSCRIBE')
ok(not any(b and b.endswith(b'Work') for b in m.lsub()[1]), 'LSUB is shorter', m.lsub())
equal(m.rename('Work', 'Job')[0], 'OK', 'RENAME of a tree')
ok({b.split(b' "/" ')[1].strip(b'"') for b in m.list('""', 'Job*')[1]} == {b'Job', b'Job/2025'}, 'its child went along', m.list('""', 'Job*'))
refused(lambda: m.select('Work'), 'the old name is gone')
equal(m.delete('Job/2025')[0], 'OK', 'DELETE')
refused(lambda: m.delete('Job/2025'), 'DELETE of what is gone')
refused(lambda: m.delete('INBOX'), 'DELETE INBOX')
equal(m.getacl('INBOX')[0], 'OK', 'GETACL')
equal(m.myrights('INBOX')[1][0].split()[-1][:3], b'lrs', 'MYRIGHTS')
equal(m.setacl('Job', 'bob', 'lrs')[0], 'OK', 'SETACL')

# APPEND.
when = datetime.datetime(2025, 1, 2, 3, 4, 5, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
sent = {}
for n in range(1, 21):
    body = [b'body needle%d\r\n' % n, b'', b'.\r\n..\r\n', 'Gr\u00fc\u00dfe'.encode() + b'\r\n', b'x' * 70000 + b'\r\n'][n % 5]
    sent[n] = message(n, body, [b'', b'X-Test: yes\r\n', b'Content-Type: text/html\r\n'][n % 3])
    typ, data = m.append('Job', '(\\Seen)' if n % 2 else None, when if n == 1 else None, sent[n])
    if typ != 'OK' or b'APPENDUID' not in data[0]:
        ok(False, 'APPEND %d' % n, data)
ok(True, 'APPEND of 20 messages with APPENDUID')
refused(lambda: m.append('no such', None, None, sent[1]), 'APPEND to what is not there: TRYCREATE')
equal(dict(re.findall(rb'(UNSEEN|MESSAGES|UIDNEXT) (\d+)', m.status('Job', '(MESSAGES UNSEEN UIDNEXT)')[1][0])),
      {b'MESSAGES': b'20', b'UNSEEN': b'10', b'UIDNEXT': b'21'}, 'STATUS')

# SELECT, FETCH.
equal(m.select('Job'), ('OK', [b'20']), 'SELECT')
equal(m.response('UIDNEXT')[1], [b'21'], 'UIDNEXT is told')
ok(m.response('UIDVALIDITY')[1][0].isdigit() and int(m.response('HIGHESTMODSEQ')[1][0] or 1) > 0, 'UIDVALIDITY is told')
differ = [n for n in sent if m.uid('FETCH', str(n), '(BODY.PEEK[])')[1][0][1] != sent[n]]
equal(differ, [], 'each message is what was appended')
ok(b'\\Seen' not in m.fetch('2', '(FLAGS)')[1][0], 'PEEK does not set \\Seen')
m.fetch('2', '(BODY[TEXT])')
ok(b'\\Seen' in m.fetch('2', '(FLAGS)')[1][0], 'BODY[TEXT] does')
equal(m.fetch('3', '(BODY.PEEK[]<10.20>)')[1][0][1], sent[3][10:30], 'a partial FETCH')
equal(m.fetch('3', '(RFC822.SIZE)')[1][0], b'3 (RFC822.SIZE %d)' % len(sent[3]), 'RFC822.SIZE')
equal(m.fetch('4', '(BODY.PEEK[HEADER.FIELDS (SUBJECT X-TEST)])')[1][0][1], b'Subject: walk 4\r\nX-Test: yes\r\n\r\n', 'HEADER.FIELDS')
equal(m.fetch('3', '(RFC822.HEADER)')[1][0][1] + m.fetch('3', '(RFC822.TEXT)')[1][0][1], sent[3], 'header and text make the message')
e = m.fetch('3', '(ENVELOPE)')[1][0]
ok(b'"walk 3"' in e and b'"=?utf-8?Q?J=C3=BCrgen?=" NIL "j3" "example.org"' in e and b'"<walk-3@example.org>"' in e, 'ENVELOPE', e)
ok(b'("TEXT" "HTML"' in m.fetch('2', '(BODYSTRUCTURE)')[1][0].upper(), 'BODYSTRUCTURE', m.fetch('2', '(BODYSTRUCTURE)'))
ok(b'"02-Jan-2025 03:04:05 +0200"' in m.fetch('1', '(INTERNALDATE)')[1][0] or b'01:04:05 +0000' in m.fetch('1', '(INTERNALDATE)')[1][0], 'INTERNALDATE is what APPEND said', m.fetch('1', '(INTERNALDATE)'))
typ, data = m.fetch('1:*', '(UID FLAGS)')
equal([int(re.search(rb'UID (\d+)', d).group(1)) for d in data], list(range(1, 21)), 'FETCH of all')
for macro in ('ALL', 'FAST', 'FULL'):
    equal(m.fetch('1', macro)[0], 'OK', 'FETCH ' + macro)

# SEARCH, STORE.
def search(*criteria, charset=None):
    typ, data = m.uid('SEARCH', *(['CHARSET', charset] if charset else []), *criteria)
    return [int(x) for x in data[0].split()] if data[0] else []

equal(search('ALL'), list(range(1, 21)), 'SEARCH ALL')
equal(search('SUBJECT', '"walk 7"'), [7], 'SEARCH SUBJECT')
equal(search('BODY', 'needle10'), [10], 'SEARCH BODY')
equal(search('FROM', 'j5@'), [5], 'SEARCH FROM')
equal(search('UNSEEN'), list(range(4, 21, 2)), 'SEARCH UNSEEN')
equal(search('NOT', 'SEEN', 'SUBJECT', '"walk 1"'), [10, 12, 14, 16, 18], 'SEARCH NOT … and')
equal(search('OR', 'SUBJECT', '"walk 3"', 'UID', '5'), [3, 5], 'SEARCH OR')
equal(search('(HEADER', 'X-Test', 'yes', 'NOT', 'UID', '1:9)'), [10, 13, 16, 19], 'SEARCH HEADER in parentheses')
equal(search('LARGER', '70000'), [4, 9, 14, 19], 'SEARCH LARGER')
equal(search('BEFORE', '3-Jan-2025'), [1], 'SEARCH BEFORE')
equal(search('SENTSINCE', '20-Jan-2025'), [19, 20], 'SEARCH SENTSINCE')
refused(lambda: m.search('X-NO-SUCH-CHARSET', 'ALL'), 'SEARCH with an unknown charset')
refused(lambda: m.search(None, 'NONSENSE'), 'SEARCH with an unknown key')
ok(b'\\Flagged' in m.store('1:3', '+FLAGS', '(\\Flagged $Label1)')[1][0], 'STORE answers with the flags')
equal(search('KEYWORD', '$Label1'), [1, 2, 3], 'SEARCH KEYWORD')
equal(m.store('1', '-FLAGS.SILENT', '$Label1')[1], [None], 'STORE .SILENT is silent')
equal(search('KEYWORD', '$label1'), [2, 3], 'keywords regard no case')
m.store('5', 'FLAGS', '(\\Draft)')
equal(m.fetch('5', '(FLAGS)')[1][0].replace(b' \\Recent', b''), b'5 (FLAGS (\\Draft))', 'STORE FLAGS replaces')
typ, data = m.uid('THREAD', 'REFERENCES', 'UTF-8', 'ALL') if 'THREAD=REFERENCES' in m.capabilities else ('OK', [b''])
equal(typ, 'OK', 'THREAD where it is advertised')

# COPY, MOVE, EXPUNGE, another session.
other = login('alice')
other.select('Job')
equal(m.copy('2:4', '"With blank"')[0], 'OK', 'COPY')
ok(m.response('COPYUID')[1] and True, 'with COPYUID')
refused(lambda: m.copy('1', 'nowhere'), 'COPY to what is not there')
typ, data = m._simple_command('MOVE', '6:7', '"With blank"')
equal(typ, 'OK', 'MOVE')
m.response('EXPUNGE')
equal(search('ALL'), [1, 2, 3, 4, 5] + list(range(8, 21)), 'the two are gone')
m.store('1', '+FLAGS', '\\Deleted')
equal(m.expunge(), ('OK', [b'1']), 'EXPUNGE')
other.noop()
# In ascending order or as they went.
ok([int(x) for x in other.response('EXPUNGE')[1]] in ([1, 5, 5], [6, 6, 1]), 'another session is told by NOOP')
equal(other.uid('SEARCH', 'ALL')[1][0].split()[:3], [b'2', b'3', b'4'], 'and counts as we do')
m.uid('STORE', '2,3', '+FLAGS.SILENT', '\\Deleted')
equal(m.uid('EXPUNGE', '3')[0], 'OK', 'UID EXPUNGE')
equal(search('DELETED'), [2], 'takes away only what was named')
m.select('"With blank"')
copied = [x[1] for x in m.fetch('1:*', '(BODY.PEEK[])')[1] if isinstance(x, tuple)]
equal(copied, [sent[2], sent[3], sent[4], sent[6], sent[7]], 'copies are the same octets')
equal(m.check()[0], 'OK', 'CHECK')
equal(m.unselect()[0] if hasattr(m, 'unselect') else 'OK', 'OK', 'UNSELECT')
equal(other.close()[0], 'OK', 'CLOSE')
other.select('Job')
equal(other.uid('SEARCH', 'DELETED')[1][0], b'', 'which expunged')

# IDLE: imaplib (before Python 3.14) has none, so by hand.
def idle_line(c, until):
    while True:
        line = c.readline()
        if until in line:
            return line

tag = other._new_tag()
other.send(tag + b' IDLE\r\n')
idle_line(other, b'+')
started = time.monotonic()
m.append('Job', None, None, message(99))
equal(idle_line(other, b'EXISTS').split()[2], b'EXISTS', 'IDLE is told of a new message')
ok(time.monotonic() - started < 2, 'at once', time.monotonic() - started)
other.send(b'DONE\r\n')
ok(b' OK' in idle_line(other, tag), 'DONE ends it')

# Other users.
bob = login('bob')
refused(lambda: bob.select('"user/alice"'), 'bob does not see alice\'s INBOX')
boxes = b' '.join(x for x in bob.list('""', '*')[1] if x)
ok(b'Job' in boxes and b'With blank' not in boxes, 'but the mailbox she gave him rights to', boxes)
name = re.search(rb'"/" "?([^"]*Job)"?', boxes).group(1).decode().join('""')
equal(bob.select(name, readonly=True)[0], 'OK', 'he may read it')
bob.select(name)
refused(lambda: bob.append(name, None, None, sent[1]), 'and not add to it')
refused(lambda: bob.store('1', '+FLAGS', '\\Deleted'), 'or delete')
equal(m.deleteacl('Job', 'bob')[0], 'OK', 'DELETEACL')
refused(lambda: login('bob').select(name), 'and he is out again')

# EXAMINE, ENABLE, ID, errors that leave the session alive.
equal(m.select('Job', readonly=True)[0], 'OK', 'EXAMINE')
refused(lambda: m._simple_command('STORE', '1', '+FLAGS', '\\Seen'), 'STORE is refused there')
equal(login('alice').enable('CONDSTORE')[0], 'OK', 'ENABLE')
imaplib.Commands.setdefault('ID', ('NONAUTH', 'AUTH', 'SELECTED'))
equal(m._simple_command('ID', '("name" "walk")')[0], 'OK', 'ID')
imaplib.Commands.setdefault('BOGUS', ('SELECTED',))
for args in (('BOGUS',), ('FETCH',), ('FETCH', '1', '(NOTHING)'), ('FETCH', '0', 'FLAGS'), ('FETCH', '1:', 'FLAGS'), ('STORE', '1', 'FLAGS'), ('SEARCH', '(ALL')):
    try:
        typ = m._simple_command(*args)[0]
    except imaplib.IMAP4.error:
        typ = 'BAD'
    ok(typ in ('BAD', 'NO'), 'refused: ' + ' '.join(args), typ)
equal(m.noop()[0], 'OK', 'and the session lives on')

# Many at once.
errors = []


def busy(k):
    try:
        c = login('alice')
        c.create('Busy')
        for i in range(10):
            assert c.append('Busy', None, None, message(1000 + k * 100 + i))[0] == 'OK'
        c.select('Busy')
        c.logout()
    except Exception as e:  # whatever it is, it is told
        errors.append(repr(e))


threads = [threading.Thread(target=busy, args=(k,)) for k in range(8)]
[t.start() for t in threads]
[t.join() for t in threads]
equal(errors, [], 'eight sessions append to one mailbox at once')
m.select('Busy')
equal(len(set(m.uid('SEARCH', 'ALL')[1][0].split())), 80, 'all 80 are there')
equal(m.logout()[0], 'BYE', 'LOGOUT')
