#!/usr/bin/env python3
"""PORT=n sync_walk.py: a real Cyrus, the master, replicates to us: users, mailboxes, rolling; by csync and inside IMAP. After each step both are looked at
over IMAP, message for message; the master's own comparison of CRCs has to be satisfied."""
import os
import re
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'lib'))
import cyrd  # noqa: E402
import cyrus  # noqa: E402
from cyrd import ADMIN, PASSWORD  # noqa: E402
from csync import Csync  # noqa: E402

port = int(os.environ.get('PORT') or 26500)
why = cyrus.missing()
if why:
    print('# skipped: ' + why)
    print('ok - skipped: ' + why)
    sys.exit(0)
tap = cyrd.Tap()
directory = cyrd.scratch('sync')
os.makedirs(directory + '/replica/sieve')
os.makedirs(directory + '/master')
CSYNC = port + 110
replica = cyrd.Daemon(directory + '/replica', port + 100, 'allowusermoves: yes\nexpunge_mode: delayed\nsievedir: %s/replica/sieve\n' % directory,
                      services='csync cmd="sync_server" listen="127.0.0.1:%d"\n' % CSYNC)
text = open(replica.path('imapd.conf')).read()
text = text.replace('altnamespace: yes', 'altnamespace: no').replace('unixhierarchysep: yes', 'unixhierarchysep: no').replace('autocreate_quota: 0', 'autocreate_quota: -1')
replica.write('imapd.conf', text)
replica.own()
master = cyrus.Cyrus(directory + '/master', port, users=('user1', 'user2', 'user3'), options='''sync_log: yes
sync_host: 127.0.0.1
sync_port: %d
sync_try_imap: no
sync_repeat_interval: 1
''' % CSYNC)
assert tap.ok(replica.start() and master.start(), 'both start', replica.logged())


def msg(i, size=0):
    return b'From: a@example.org\r\nTo: b@example.org\r\nSubject: %d\r\nDate: Mon, 7 Feb 1994 21:52:25 -0800\r\nMessage-Id: <%d@example.org>\r\n\r\nText of %d.\r\n%s' % (
        i, i, i, b'0123456789abcdef\r\n' * (size // 18))


def sync(*args, want=0):
    rc, out = master.run('sync_client', '-v', '-v', *args)
    tap.ok(rc == want, 'sync_client ' + ' '.join(args), out[-3000:])
    return out


scripts = False


def same(user, name):
    a, b = cyrus.state(master.user(user)), cyrus.state(replica.user(user))
    wrong = []
    for box in sorted(set(a['mailboxes']) | set(b['mailboxes'])):
        x, y = a['mailboxes'].get(box), b['mailboxes'].get(box)
        if x != y:
            wrong.append('%r:\n master  %r\n replica %r' % (box, x, y))
    if scripts:                                 # which count in the quota there, and not here
        for x in a, b:
            x['quota'] = [re.sub(rb'(STORAGE|MESSAGE) \d+', rb'\1', q) for q in x['quota']]
    for key in ('subscribed', 'quota', 'metadata'):
        if a[key] != b[key]:
            wrong.append('%s:\n master  %r\n replica %r' % (key, a[key], b[key]))
    return tap.ok(not wrong and a['mailboxes'], name, '\n'.join(wrong))


admin = master.user(ADMIN)
for u in ('user1', 'user2', 'user3'):
    admin.ok('CREATE user.' + u)
u1 = master.user('user1')
u1.ok('CREATE INBOX.Sent')
u1.ok('CREATE INBOX.Lists.deep')
for i in range(1, 30):
    assert u1.append('INBOX', msg(i, 200000 if i % 10 == 0 else 0), '\\Seen $foo' if i % 2 else '')[0] == 'OK'
u1.ok('SELECT INBOX')
u1.ok('STORE 3:5 +FLAGS (\\Flagged \\Answered label-1 "NonJunk")'.replace('"', ''))
u1.ok('STORE 7 +FLAGS (\\Deleted)')
u1.ok('EXPUNGE')
u1.ok('COPY 1:4 INBOX.Sent')
u1.ok('SUBSCRIBE INBOX')
for odd in '"INBOX.with space (x)"', 'INBOX.Entw&APw-rfe', '"INBOX.a [b] \'c\' $d"':
    u1.ok('CREATE ' + odd)
    u1.ok('SUBSCRIBE ' + odd)
assert u1.append('INBOX', msg(1000, 5000000), '\\Draft $a.b:c')[0] == 'OK'
assert u1.append('INBOX', b'Subject: \xe4 8bit\r\n\r\n\xff\xfe octets\r\n')[0] == 'OK'
u1.ok('SUBSCRIBE INBOX.Sent')
admin.ok('SETQUOTA user.user1 (STORAGE 100000 MESSAGE 5000)')
u1.cmd('SETMETADATA INBOX (/private/comment "mine \\"quoted\\"")')
admin.cmd('SETMETADATA user.user1 (/shared/comment {7+}\r\na\r\nb \xe4)'.encode('latin-1'))
admin.ok('SETACL user.user1 user2 lrswi')

out = sync('-u', 'user1')
tap.ok('IMAP_SYNC_CHECKSUM' not in out and 'NO ' not in out, 'without any refusal', out[-2000:])
same('user1', 'first copy of a user')
out = sync('-u', 'user1')
tap.ok('APPLY MAILBOX' not in out and 'APPLY MESSAGE' not in out, 'the second time nothing is sent: the CRCs are the same', out[-3000:])

u1.ok('STORE 1:10 -FLAGS ($foo)')
u1.ok('STORE 2 +FLAGS (\\Deleted)')
u1.ok('EXPUNGE')
u1.append('INBOX', msg(100))
u1.append('INBOX.Lists.deep', msg(1))             # the same octets as one that is there: reserved, not sent
out = sync('-m', 'user.user1', 'user.user1.Lists.deep')
tap.ok('APPLY RESERVE' in out and 'NO ' not in out, 'a set of mailboxes, by RESERVE and a delta', out[-2000:])
same('user1', 'after flags, expunge, appends')

u1.ok('RENAME INBOX.Sent INBOX.Gone')
u1.ok('CREATE INBOX.New')
out = sync('-u', 'user1')
tap.ok('APPLY RENAME' in out, 'a rename is a rename', out[-2000:])
same('user1', 'after it')
u1.ok('DELETE INBOX.New')
sync('-u', 'user1')
same('user1', 'after a deletion')
tap.ok(re.search(rb'DELETED.user.user1.New', b''.join(replica.user(ADMIN).ok('LIST "" "DELETED.*"')[2])), 'which was a delayed one')

# Seen of another user, on the owner's mailbox.
u2 = master.user('user2')
u2.ok('SELECT user.user1')
u2.ok('STORE 1:3 +FLAGS (\\Seen)')
u2.ok('LOGOUT')
sync('-u', 'user2')
seen = [c.ok('EXAMINE user.user1') and sorted(int(x) for x in re.findall(rb'\d+', b''.join(c.ok('UID SEARCH SEEN')[2]))) for c in (master.user('user2'), replica.user('user2'))]
tap.ok(seen[0] == seen[1] and len(seen[0]) >= 3, 'what somebody else has seen', seen)

# Annotations of messages.
st = u1.cmd('STORE 1 ANNOTATION (/comment (value.priv "mine" value.shared "ours"))')
if st[0] == 'OK':
    sync('-m', 'user.user1')
    got = [sorted(re.findall(rb'value.(?:priv|shared) "[^"]*"', b''.join(c.ok('EXAMINE INBOX') and c.ok('FETCH 1 (ANNOTATION (/comment (value.priv value.shared)))')[2])))
           for c in (master.user('user1'), replica.user('user1'))]
    tap.ok(len(got[0]) == 2 and got[0] == got[1], 'annotations of messages', got)
    same('user1', 'and all else')

# Scripts: on the master in its mailbox #sieve, here as files.
script, second = b'require "fileinto";\r\nkeep;\r\n', b'discard;\r\n'
answers = master.managesieve('user1', b'PUTSCRIPT "main" {%d+}\r\n' % len(script) + script, b'PUTSCRIPT "other one" {%d+}\r\n' % len(second) + second, b'SETACTIVE "main"')
if all(a.startswith(b'OK') for a in answers):
    scripts = True
    sync('-s', 'user1')
    c = Csync(CSYNC)
    got = [(v['FILENAME'], v['ISACTIVE']) for k, v in c.get('META', 'user1')[1] if k == 'SIEVE']
    tap.ok(sorted(got) == [(b'main.bc', b'1'), (b'main.script', b'0'), (b'other one.script', b'0')], 'scripts', got)
    final, got = c.get('FETCH_SIEVE', dict(USERID='user1', FILENAME='main.script'))
    tap.ok(got and got[0][1]['CONTENT'] == script, 'their text', (final, got))
    out = sync('-s', 'user1')
    tap.ok('APPLY SIEVE' not in out and 'ACTIVATE' not in out, 'once', out[-2000:])
    master.managesieve('user1', b'SETACTIVE ""', b'DELETESCRIPT "main"')
    sync('-R', '-1')
    got = [(v['FILENAME'], v['ISACTIVE']) for k, v in c.get('META', 'user1')[1] if k == 'SIEVE']
    tap.ok(got == [(b'other one.script', b'0')], 'one that is gone, none active: by the log', got)
else:
    tap.ok(False, 'ManageSieve on the master', answers)

# Rolling: the log, once.
for i in range(200, 220):
    u1.append('INBOX', msg(i))
u1.ok('STORE 1:5 +FLAGS (\\Answered)')
u1.ok('UNSUBSCRIBE INBOX.Sent')
admin.ok('SETQUOTA user.user1 (STORAGE 90000)')
admin.ok('CREATE user.user3.a.b')
out = sync('-R', '-1')
same('user1', 'rolling: user1')
sync('-R', '-1')
same('user3', 'rolling: user3, with an intermediate name')
admin.cmd('SETACL user.user3 admin lrswipkxtecda')
admin.ok('DELETE user.user3')
out = sync('-R', '-1')
tap.ok(not [r for r in replica.user(ADMIN).ok('LIST "" "user.user3*"')[2]], 'rolling: a user who is gone', out[-2000:])

# All, with deflate as offered, and inside IMAP.
sync('-A')
with open(master.path('imapd.conf'), 'a') as f:
    f.write('imap_sync_host: 127.0.0.1\nimap_sync_port: %d\nimap_sync_try_imap: 1\nimap_sync_authname: admin\nimap_sync_password: %s\n' % (replica.port, PASSWORD))
u1.append('INBOX', msg(300, 100000))
out = sync('-n', 'imap', '-u', 'user1')
tap.ok('SYNCAPPLY MAILBOX' in out or 'SYNCGET' in out, 'inside IMAP', out[-2000:])
same('user1', 'inside IMAP')

# A replica that was changed by itself: the master repairs (17.6), and by force.
r1 = replica.user('user1')
r1.append('INBOX', msg(900))
u1.append('INBOX', msg(901))
r1.ok('SELECT INBOX')
r1.ok('STORE 1 +FLAGS (\\Draft)')
sync('-u', 'user1')
same('user1', 'after both were changed: repaired')
sync('-u', 'user1')
same('user1', 'and stays so')

# The replica is killed in the middle of a copy: the next run completes it.
u2 = master.user('user2')
for i in range(300):
    u2.append('INBOX', msg(i, 3000))
import subprocess  # noqa: E402
p = subprocess.Popen(['setpriv', '--reuid', 'cyrus', '--regid', 'mail', '--init-groups', cyrus.BIN + '/sync_client', '-C', master.path('imapd.conf'), '-u', 'user2'],
                     cwd=master.path('tmp'), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
time.sleep(0.25)
replica.kill()
p.kill()
p.wait()
tap.ok(replica.start(), 'killed in the middle, it starts again', replica.logged())
sync('-u', 'user2')
same('user2', 'and the next run completes it')

def ended():
    master.stop()
    tap.ok(replica.stop() == 0, 'the replica ends well')
    errors = [l for l in replica.logged().splitlines() if ' error ' in l]
    tap.ok(not errors, 'and has logged no error', '\n'.join(errors))
    rc, text = replica.ctl('check')
    tap.ok(rc == 0, 'cyrctl check', text)


ended()

# Domains, other separators: names on the wire are internal ones all the same.
names = 'unixhierarchysep: yes\naltnamespace: yes\nvirtdomains: userid\ndefaultdomain: localhost\n'
os.makedirs(directory + '/replica2/sieve')
os.makedirs(directory + '/master2')
replica = cyrd.Daemon(directory + '/replica2', port + 100, 'virtdomains: userid\ndefaultdomain: localhost\nallowusermoves: yes\nexpunge_mode: delayed\nsievedir: %s/replica2/sieve\n' % directory,
                      services='csync cmd="sync_server" listen="127.0.0.1:%d"\n' % CSYNC)
replica.write('imapd.conf', open(replica.path('imapd.conf')).read().replace('autocreate_quota: 0', 'autocreate_quota: -1'))
replica.own()
master = cyrus.Cyrus(directory + '/master2', port, users=('jo.e', 'ann@example.org'), options='''sync_log: yes
sync_host: 127.0.0.1
sync_port: %d
sync_try_imap: no
''' % CSYNC)
text = open(master.path('imapd.conf')).read().replace('altnamespace: no\nunixhierarchysep: no\n', names)
master.write('imapd.conf', text)
tap.ok(replica.start() and master.start(), 'two others start', replica.logged())
admin, scripts = master.user(ADMIN), False
for who in 'jo.e', 'ann@example.org':
    st = admin.cmd('CREATE user/' + who)
    tap.ok(st[0] == 'OK', 'a user ' + who, st)
    u = master.user(who)
    u.ok('CREATE Lists')
    u.ok('CREATE "Lists/a.b"')
    u.ok('SUBSCRIBE "Lists/a.b"')
    for i in range(5):
        u.append('INBOX', msg(i))
        u.append('"Lists/a.b"', msg(i), '\\Seen')
    sync('-u', who)
    same(who, 'of ' + who)
    u.ok('RENAME "Lists/a.b" "Lists/c"')
    sync('-R', '-1')
    same(who, 'of %s, by the log' % who)
ended()
if not tap.bad and not os.environ.get('KEEP'):
    cyrd.shutil.rmtree(directory, ignore_errors=True)
else:
    print('# the directory is kept: ' + directory)
sys.exit(1 if tap.bad else 0)
