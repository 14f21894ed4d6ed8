"""handover_walk - what a service program sends to the daemon when it hands a client over, sent well and badly: the operation "handover" of the
control socket. Prints TAP lines. Environment: SOCKET (control socket), PID (the daemon's)."""
import array
import json
import os
import socket
import sys

SOCKET, PID = os.environ['SOCKET'], int(os.environ['PID'])


def ok(good, what):
    print('%sok %s' % ('' if good else 'not ', what))
    sys.stdout.flush()


def connect():
    s = socket.socket(socket.AF_UNIX)
    s.connect(SOCKET)
    s.settimeout(20)
    return s


def ask(args, fds=(), op='handover', s=None, first=b''):
    own = s is None
    s = s or connect()
    text = first + json.dumps({'op': op, 'args': args}).encode() + b'\n'
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))] if fds else []
    s.sendmsg([text[:1]], ancillary)
    s.sendall(text[1:])
    got = b''
    while True:
        part = s.recv(65536)
        if not part:
            break
        got += part
        lines = got.split(b'\n')
        last = json.loads(lines[-2]) if len(lines) > 1 else {}
        if 'ok' in last:
            break
    if own:
        s.close()
    return last


def fds_of_daemon():
    return len(os.listdir('/proc/%d/fd' % PID))


def args(**more):
    return dict({'program': 'imapd', 'name': 'imap', 'argv': ['imapd'], 'listened': False}, **more)


def pair():
    a, b = socket.socketpair()
    a.settimeout(20)
    return a, b


before = None
for round in range(2):
    ours, theirs = pair()
    reply = ask(args(), [theirs.fileno()])
    theirs.close()
    if round == 0:
        ok(reply.get('ok') is True, 'a socket is taken')
        ok(ours.recv(200).startswith(b'* OK '), '... and served')
        ours.sendall(b'a LOGOUT\r\n')
        ok(b'a OK' in ours.recv(4096) + ours.recv(4096), '... to the end')
    ours.close()

ours, theirs = pair()
r, w = os.pipe()
reply = ask(args(), [theirs.fileno(), w])
theirs.close()
os.close(w)
ours.sendall(b'a LOGOUT\r\n')
while ours.recv(4096):
    pass
ok(os.read(r, 1) == b'', 'the second descriptor is closed when the session has ended')

for what, a, code in [
        ('no program', args(program='ls'), 'syntax'),
        ('a program that is no service', args(program='reconstruct'), 'syntax'),
        ('a name that is none', args(name='a b'), 'syntax'),
        ('an empty name', args(name=''), 'syntax'),
        ('a long name', args(name='x' * 40), 'syntax'),
        ('no words', args(argv=[]), 'syntax'),
        ('words that are none', args(argv=['imapd', 3]), 'syntax'),
        ('too many words', args(argv=['imapd'] * 100), 'syntax'),
        ('an option that is none', args(argv=['imapd', '-Z']), 'config')]:
    ours, theirs = pair()
    reply = ask(a, [theirs.fileno()])
    theirs.close()
    ok(reply.get('code') == code and ours.recv(10) == b'', what + ': refused, and the descriptor is closed')

reply = ask(args())
ok(reply.get('code') == 'syntax', 'no descriptor: refused')
listening = socket.socket()
listening.bind(('127.0.0.1', 0))
listening.listen()
with open('/dev/null') as null:
    dgram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    r2, w2 = os.pipe()
    for what, fd in [('a file', null.fileno()), ('a pipe', r2), ('a datagram socket', dgram.fileno()), ('a listening socket', listening.fileno())]:
        reply = ask(args(), [fd])
        ok(reply.get('code') == 'syntax', what + ': refused')

# Descriptors in number, with requests that have no use for them, without a request.
before = fds_of_daemon()
null = os.open('/dev/null', os.O_RDONLY)
s = connect()
for i in range(50):
    reply = ask({}, [null] * 100, op='status', s=s)
ok(reply.get('ok') is True, 'descriptors that nobody asked for')
reply = ask({}, [null] * 2, op='nosuch', s=s)
ok(reply.get('code') == 'syntax', '... with a request that is none')
for i in range(200):
    s.sendmsg([b' '], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [null] * 2))])
reply = ask({}, op='status', s=s)
ok(reply.get('ok') is True and fds_of_daemon() <= before + 4, '... are not piled up')
s.close()
quiet = connect()
quiet.sendmsg([b'{'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [null] * 2))])
quiet.close()
for i in range(100):
    if fds_of_daemon() <= before:
        break
    os.sched_yield()
    __import__('time').sleep(0.05)
ok(fds_of_daemon() <= before, 'and go with the connection')
