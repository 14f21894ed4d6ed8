#!/usr/bin/env python3
"""PORT=n sync_compare.py: the same commands to a real sync_server and to ours: the same answers, untagged lines included, but for what is known and said here."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import cyrd  # noqa: E402
import cyrus  # noqa: E402
from csync import Csync, File, crcs, item, mailbox, record  # noqa: E402

port = int(os.environ.get('PORT') or 26500)
why = cyrus.missing()
if why:
    print('# skipped: ' + why)
    print('ok - skipped: ' + why)
    sys.exit(0)
tap = cyrd.Tap()
directory = cyrd.scratch('compare')
for sub in 'ours/sieve', 'ours/second', 'real':
    os.makedirs(os.path.join(directory, sub))
OURS = port + 110
ours = cyrd.Daemon(directory + '/ours', port + 100, 'allowusermoves: yes\nexpunge_mode: delayed\ndelete_mode: delayed\nsievedir: %s/ours/sieve\npartition-second: %s/ours/second\n' % (
    directory, directory), services='csync cmd="sync_server" listen="127.0.0.1:%d"\n' % OURS)
real = cyrus.Cyrus(directory + '/real', port, options='partition-second: %s/real/second\n' % directory)
os.makedirs(directory + '/real/second')
cyrd.subprocess.run(['chown', '-R', 'cyrus:mail', directory + '/real'], check=True)
assert tap.ok(ours.start() and real.start(), 'both start', ours.logged())
a, b = Csync(real.csync), Csync(OURS)


def normal(value):
    """Order within keys and lists of flags has no meaning; which are left out of a list of annotations has."""
    if isinstance(value, dict):
        return {k: sorted(map(repr, v)) if k == 'FLAGS' else normal(v) for k, v in value.items()}
    if isinstance(value, list):
        return [normal(v) for v in value]
    return (value.partition, value.guid, value.octets) if isinstance(value, File) else value


def differences(at, x, y):
    if x == y:
        return ''
    if isinstance(x, dict) and isinstance(y, dict):
        return ''.join(differences(at + '/' + k, x.get(k), y.get(k)) for k in sorted(set(x) | set(y)))
    if isinstance(x, (list, tuple)) and isinstance(y, (list, tuple)) and len(x) == len(y):
        return ''.join(differences('%s/%d' % (at, i), p, q) for i, (p, q) in enumerate(zip(x, y)))
    return '%s: real %r, ours %r\n' % (at, x, y)


def both(verb, key, value, but=()):
    """`but`: keys of untagged lines that may differ."""
    answers = []
    for c in a, b:
        final, untagged = c.cmd(verb, key, value) if isinstance(value, (dict, list, str, bytes, type(None))) else c.cmd(verb, key, value)
        untagged = [(k, sorted(v) if k == 'LSUB' else v) for k, v in untagged]
        lines = sorted(((k, {x: y for x, y in normal(v).items() if x not in but} if isinstance(v, dict) else normal(v)) for k, v in untagged), key=repr)
        answers.append((final, lines))
    text = '%s %s %.70s' % (verb, key, item(value).decode('utf-8', 'replace').replace('\r\n', '..'))
    tap.ok(answers[0] == answers[1], text, differences('', answers[0], answers[1]))
    return answers[0][0]


def get(key, value, **kw): return both('GET', key, value, **kw)
def apply(key, value, **kw): return both('APPLY', key, value, **kw)


def msg(i):
    return b'From: a@example.org\r\nSubject: %d\r\nMessage-Id: <%d@example.org>\r\n\r\nText of %d.\r\n' % (i, i, i)


octets = [msg(i) for i in range(8)]
one, two, three = 'a' * 24, 'b' * 24, 'c' * 24
r = [record(i + 1, i + 2, octets[i], ['\\Seen', '$x'] if i % 2 else []) for i in range(4)]
r[1]['ANNOTATIONS'].insert(0, dict(ENTRY='/comment', USERID='', MODSEQ=3, VALUE='hi "you"'))
get('USER', 'user1')
get('META', 'user1')
get('MAILBOXES', ['user.user1', 'user.none'])
get('FULLMAILBOX', 'user.user1')
get('QUOTA', 'user.user1')
get('ANNOTATION', '')
get('NOSUCH', 'x')
apply('NOSUCH', {})
apply('RESERVE', dict(PARTITION='default', MBOXNAME=['user.user1'], GUID=[x['GUID'] for x in r]))
apply('MESSAGE', [File('default', o) for o in octets[:4]])
box = mailbox('user.user1', one, r, HIGHESTMODSEQ=6, LAST_UID=4, FOLDERMODSEQ=6, RECENTUID=3, RECENTTIME=1700000100, POP3_LAST_LOGIN=1700000200,
              ANNOTATIONS=[dict(ENTRY='/comment', USERID='', MODSEQ=0, VALUE='box')])
apply('MAILBOX', box)
get('USER', 'user1')
get('FULLMAILBOX', 'user.user1')
get('UNIQUEIDS', [one, two])
get('FETCH', dict(MBOXNAME='user.user1', PARTITION='default', UNIQUEID=one, GUID=r[2]['GUID'], UID=3))
get('FETCH', dict(MBOXNAME='user.user1', PARTITION='default', UNIQUEID=one, GUID=r[2]['GUID'], UID=99))
now = [dict(r[0], MODSEQ=8, FLAGS=['\\Flagged'], LAST_UPDATED=1700000500), r[1], r[2], dict(r[3], MODSEQ=9, FLAGS=['\\Expunged'])]
delta = mailbox('user.user1', one, [now[0], now[3]], now, LAST_UID=4, FOLDERMODSEQ=6)
apply('MAILBOX', dict(delta, SINCE_MODSEQ=5, SINCE_CRC=box['SYNC_CRC'], SINCE_CRC_ANNOT=box['SYNC_CRC_ANNOT']))
apply('MAILBOX', dict(delta, SINCE_MODSEQ=6, SINCE_CRC=box['SYNC_CRC'] ^ 1, SINCE_CRC_ANNOT=box['SYNC_CRC_ANNOT']))
apply('MAILBOX', dict(delta, SINCE_MODSEQ=6, SINCE_CRC=box['SYNC_CRC'], SINCE_CRC_ANNOT=box['SYNC_CRC_ANNOT']))
get('FULLMAILBOX', 'user.user1')
for change in (dict(HIGHESTMODSEQ=8), dict(LAST_UID=3), dict(UIDVALIDITY=5), dict(UNIQUEID=two), dict(MBOXNAME='user.user1.x')):
    apply('MAILBOX', dict(delta, RECORD=[], **change))
apply('MAILBOX', dict(delta, RECORD=[dict(now[1], GUID='1' * 40, MODSEQ=10)], HIGHESTMODSEQ=10))
apply('MAILBOX', dict(delta, RECORD=[dict(now[0], MODSEQ=7)]))
apply('MAILBOX', dict(delta, RECORD=[dict(r[3], MODSEQ=10)], HIGHESTMODSEQ=10))
apply('MAILBOX', dict(delta, RECORD=[record(2, 3, octets[1])], HIGHESTMODSEQ=12))
get('FULLMAILBOX', 'user.user1')
for key in ('UNIQUEID', 'MBOXNAME', 'LAST_UID', 'HIGHESTMODSEQ', 'RECENTUID', 'RECENTTIME', 'LAST_APPENDDATE', 'POP3_LAST_LOGIN', 'UIDVALIDITY', 'PARTITION', 'ACL', 'OPTIONS', 'RECORD'):
    apply('MAILBOX', {k: v for k, v in delta.items() if k != key})
apply('MAILBOX', mailbox('user.user1.Sent', two, [], OPTIONS='PS', ACL='user1\tlrswipkxtecdan\tanyone\tlr\t'))
apply('MAILBOX', dict(UNIQUEID=three, MBOXNAME='user.user1.mid', MBOXTYPE='ei', HIGHESTMODSEQ=5, CREATEDMODSEQ=4, FOLDERMODSEQ=5))
apply('MAILBOX', mailbox('user.user1.mid.low', 'd' * 24, []))
get('USER', 'user1')
apply('RENAME', dict(OLDMBOXNAME='user.user1.Sent', NEWMBOXNAME='user.user1.Bin', PARTITION='default', UIDVALIDITY=1700000001))
apply('RENAME', dict(OLDMBOXNAME='user.user1.Sent', NEWMBOXNAME='user.user1.Bin', PARTITION='default', UIDVALIDITY=1700000001))
apply('RENAME', dict(OLDMBOXNAME='user.user1.Bin', NEWMBOXNAME='user.user1.Bin', PARTITION='second', UIDVALIDITY=1700000001))
get('MAILBOXES', ['user.user1.Sent', 'user.user1.Bin'], but=('FOLDERMODSEQ', 'HIGHESTMODSEQ'))
apply('RENAME', dict(OLDMBOXNAME='user.user1.Bin', NEWMBOXNAME='DELETED.user.user1.Bin.6B0242FA', PARTITION='second', UIDVALIDITY=1700000001))
get('USER', 'user1', but=('FOLDERMODSEQ', 'HIGHESTMODSEQ'))
apply('UNMAILBOX', 'user.user1.mid.low')
apply('UNMAILBOX', 'user.never')
apply('LOCAL_UNMAILBOX', 'user.never')
apply('EXPUNGE', dict(MBOXNAME='user.user1', UNIQUEID=one, UID=[2]))
apply('EXPUNGE', dict(MBOXNAME='user.user1', UNIQUEID=two, UID=[2]))
apply('EXPUNGE', dict(MBOXNAME='user.none', UNIQUEID=two, UID=[2]))
get('FULLMAILBOX', 'user.user1')
apply('QUOTA', dict(ROOT='user.user1', LIMIT=5000, STORAGE=5000, MESSAGE=100, MODSEQ=14))
get('QUOTA', 'user.user1')
apply('QUOTA', dict(ROOT='user.user1', LIMIT=4294967295, MODSEQ=16))
get('QUOTA', 'user.user1')
apply('UNQUOTA', 'user.user1')
get('QUOTA', 'user.user1')
apply('SEEN', dict(USERID='user2', UNIQUEID=one, LASTREAD=1795310330, LASTUID=6, LASTCHANGE=1795310329, SEENUIDS='1:2,5'))
apply('SEEN', dict(USERID='user2', UNIQUEID=two, LASTREAD=1795310330, LASTUID=0, LASTCHANGE=1795310329, SEENUIDS=''))
get('META', 'user2')
apply('SUB', dict(USERID='user1', MBOXNAME='user.user1'))
apply('SUB', dict(USERID='user1', MBOXNAME='user.none'))
get('META', 'user1')
apply('UNSUB', dict(USERID='user1', MBOXNAME='user.none'))
get('META', 'user1')
apply('ANNOTATION', dict(MBOXNAME='', ENTRY='/comment', USERID='', VALUE='server "note" \\x'))
get('ANNOTATION', '')
apply('UNANNOTATION', dict(MBOXNAME='', ENTRY='/comment', USERID=''))
get('ANNOTATION', '')
# Records of odd kinds: expunged ones without octets, flags in any case, no annotations.
odd = [record(1, 2, octets[5], ['\\Expunged', '\\Deleted']), record(3, 4, octets[6], ['\\SEEN', '\\Unknown', '$Label', 'x']), record(7, 8, octets[7], virtual=False)]
apply('MESSAGE', [File('default', octets[6]), File('default', octets[7])])
seen_as = [odd[0], dict(odd[1], FLAGS=['\\Seen', '$Label', 'x']), odd[2]]
apply('MAILBOX', mailbox('user.user1.odd', 'e' * 24, odd, seen_as, LAST_UID=9, HIGHESTMODSEQ=20))
get('FULLMAILBOX', 'user.user1.odd')
get('FETCH', dict(MBOXNAME='user.user1.odd', PARTITION='default', UNIQUEID='e' * 24, GUID=odd[0]['GUID'], UID=1))
apply('RESERVE', dict(PARTITION='default', MBOXNAME=['user.user1.odd', 'user.user1'], GUID=[odd[0]['GUID'], odd[1]['GUID'], r[0]['GUID'], '1' * 40]))
apply('LOCAL_MAILBOX', mailbox('user.user1.odd', 'e' * 24, [dict(odd[2], MODSEQ=30, FLAGS=['\\Draft'])], [seen_as[1], dict(odd[2], MODSEQ=30, FLAGS=['\\Draft'])], LAST_UID=9, HIGHESTMODSEQ=30,
                               OPTIONS='PSDA', ACL='user1\tlrswipkxtecdan\tuser2\tlr\t-user3\tl\t', RECENTUID=7, POP3_SHOW_AFTER=1600000000))
get('FULLMAILBOX', 'user.user1.odd')
# Scripts. The real one makes messages of them, of now.
apply('SIEVE', dict(USERID='user1', FILENAME='main.script', LAST_UPDATE=1795310371, CONTENT='keep;\r\n'))
apply('SIEVE', dict(USERID='user1', FILENAME='two.script', LAST_UPDATE=1795310372, CONTENT='discard;\r\n'))
get('META', 'user1', but=('LAST_UPDATE',))
apply('ACTIVATE_SIEVE', dict(USERID='user1', FILENAME='main.bc'))
get('META', 'user1', but=('LAST_UPDATE',))
get('FETCH_SIEVE', dict(USERID='user1', FILENAME='main.script'))
get('FETCH_SIEVE', dict(USERID='user1', FILENAME='none.script'))
apply('UNACTIVATE_SIEVE', dict(USERID='user1'))
apply('UNSIEVE', dict(USERID='user1', FILENAME='main.bc'))
apply('UNSIEVE', dict(USERID='user1', FILENAME='main.script'))
get('META', 'user1', but=('LAST_UPDATE',))
for key in ('QUOTA', 'SEEN', 'SUB', 'UNSUB', 'ANNOTATION', 'RENAME', 'EXPUNGE', 'RESERVE', 'SIEVE', 'ACTIVATE_SIEVE'):
    apply(key, {})
apply('FORCE', {})
apply('MAILBOX', dict(delta, RECORD=[], HIGHESTMODSEQ=7, SYNC_CRC=0, SYNC_CRC_ANNOT=0))
get('MAILBOXES', ['user.user1'])
apply('UNUSER', 'user1')
get('META', 'user1')
apply('UNUSER', 'user1')
for line in (b'NOOP', b'NOOP x', b'HELLO', b'', b'RESTART', b'COMPRESS FOO', b'AUTHENTICATE PLAIN', b'STARTTLS', b'EXIT'):
    got = [c.raw(line + b'\r\n')[0] for c in (a, b)]
    tap.ok(got[0] == got[1], line.decode() or 'an empty line', 'real %r\nours %r' % tuple(got))
real.stop()
tap.ok(ours.stop() == 0, 'ours ends well')
if not tap.bad and not os.environ.get('KEEP'):
    cyrd.shutil.rmtree(directory, ignore_errors=True)
else:
    print('# the directory is kept: ' + directory)
sys.exit(1 if tap.bad else 0)
