"""cyrus - a real Cyrus, for t/interop: its own master, with programs from Debian, in a directory of its own. Needs root, and cyrus-imapd, cyrus-replication."""
import glob
import os
import shutil
import signal
import subprocess
import time

import cyrd

BIN = '/usr/lib/cyrus/bin'
PASSWORD = cyrd.PASSWORD


def missing():
    """Why it cannot be started here; None: it can."""
    if os.geteuid() != 0:
        return 'needs root'
    for program in ('master', 'imapd', 'lmtpd', 'sync_client', 'sync_server'):
        if not os.path.exists(os.path.join(BIN, program)):
            return program + ' is not installed'
    try:
        cyrd.pwd.getpwnam('cyrus')
    except KeyError:
        return 'cyrus is no account here'
    return None


class Cyrus:
    """Services imap (port), lmtp (+2), sieve (+3), csync (+4)."""
    def __init__(self, directory, port, users=(), options='', daemon=''):
        self.dir, self.port, self.lmtp, self.sieve, self.csync = directory, port, port + 2, port + 3, port + 4
        self.proc = None
        for sub in ('conf/db', 'conf/log', 'conf/socket', 'conf/sync', 'conf/msg', 'conf/ptclient', 'spool', 'sieve', 'run/proc', 'run/lock', 'tmp'):
            os.makedirs(self.path(sub), exist_ok=True)
        for user in ('admin',) + tuple(users):
            subprocess.run(['/usr/sbin/saslpasswd2', '-p', '-c', '-u', 'localhost', '-f', self.path('sasldb2'), user], input=PASSWORD.encode(), check=True)
        self.write('imapd.conf', '''configdirectory: {d}/conf
partition-default: {d}/spool
defaultpartition: default
proc_path: {d}/run/proc
mboxname_lockpath: {d}/run/lock
lmtpsocket: {d}/run/lmtp
idlesocket: {d}/run/idle
notifysocket: {d}/run/notify
sieveusehomedir: no
sievedir: {d}/sieve
servername: localhost
admins: admin
sasl_pwcheck_method: auxprop
sasl_auxprop_plugin: sasldb
sasl_sasldb_path: {d}/sasldb2
sasl_mech_list: PLAIN
allowplaintext: yes
altnamespace: no
unixhierarchysep: no
delete_mode: delayed
expunge_mode: delayed
conversations: no
autocreate_quota: -1
allowusermoves: yes
sync_authname: admin
sync_password: {p}
'''.format(d=directory, p=PASSWORD) + options)
        c = self.path('imapd.conf')
        self.write('cyrus.conf', '''START {{
  recover cmd="ctl_cyrusdb -C {c} -r"
}}
SERVICES {{
  imap cmd="imapd -C {c}" listen="127.0.0.1:{i}" prefork=0
  lmtp cmd="lmtpd -C {c} -a" listen="127.0.0.1:{l}" prefork=0
  csync cmd="sync_server -C {c}" listen="127.0.0.1:{s}" prefork=0
  sieve cmd="timsieved -C {c}" listen="127.0.0.1:{m}" prefork=0
}}
EVENTS {{
  checkpoint cmd="ctl_cyrusdb -C {c} -c" period=30
}}
DAEMON {{
{x}
}}
'''.format(c=c, i=self.port, l=self.lmtp, s=self.csync, m=self.sieve, x=daemon.replace('CONF', c)))
        subprocess.run(['chown', '-R', 'cyrus:mail', directory], check=True)

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text):
        with open(self.path(name), 'w') as f:
            f.write(text)

    def start(self):
        cyrd.atexit.register(self.stop)
        with open(self.path('out'), 'ab') as out:
            self.proc = subprocess.Popen([BIN + '/master', '-C', self.path('imapd.conf'), '-M', self.path('cyrus.conf'), '-p', self.path('master.pid'), '-D'],
                                         stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
        for _ in range(200):
            try:
                cyrd.Stream(self.port, timeout=5).close()
                return True
            except cyrd.Closed:
                time.sleep(0.05)
        return False

    def stop(self):
        """Its master and all that it started: they are one process group."""
        if not self.proc:
            return
        try:
            self.proc.send_signal(signal.SIGTERM)
            self.proc.wait(10)
        except (subprocess.TimeoutExpired, ProcessLookupError):
            pass
        try:
            os.killpg(self.proc.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.proc.wait()
        self.proc = None

    def run(self, program, *args, timeout=60):
        """A program of Cyrus, as the user cyrus: (status, output); status None when it did not end in time."""
        command = ['setpriv', '--reuid', 'cyrus', '--regid', 'mail', '--init-groups', os.path.join(BIN, program), '-C', self.path('imapd.conf')]
        p = subprocess.Popen(command + list(args), cwd=self.path('tmp'), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                             errors='replace', start_new_session=True)
        try:
            out = p.communicate(timeout=timeout)[0]
            return p.returncode, out
        except subprocess.TimeoutExpired:
            os.killpg(p.pid, signal.SIGKILL)
            return None, p.communicate()[0]

    def user(self, user, **kw):
        c = cyrd.Imap(self.port, **kw)
        c.login(user)
        return c

    def managesieve(self, user, *commands):
        """Each command (bytes) by ManageSieve (RFC 5804); its last line."""
        s = cyrd.Stream(self.sieve)
        out = []

        def answer():
            while True:
                l = s.line()
                if l.startswith((b'OK', b'NO', b'BYE')):
                    return l
        answer()
        plain = cyrd.base64.b64encode(b'%s\0%s\0%s' % (b'', user.encode(), PASSWORD.encode()))
        for c in (b'AUTHENTICATE "PLAIN" "' + plain + b'"',) + commands:
            s.send(c + b'\r\n')
            out.append(answer())
        s.close()
        return out

    def remove(self):
        self.stop()
        shutil.rmtree(self.dir, ignore_errors=True)


def state(connection):
    """All that a user can see of his mailboxes over IMAP, to be compared between two servers: {mailbox: [what it is, messages]}."""
    import hashlib
    import re
    c, out = connection, {}
    names = sorted(re.match(rb'\* LIST \([^)]*\) \S+ (.*?)\r\n', r).group(1) for r in c.ok('LIST "" "*"')[2])
    subscribed = sorted(re.match(rb'\* LSUB \([^)]*\) \S+ (.*?)\r\n', r).group(1) for r in c.ok('LSUB "" "*"')[2])
    for name in names:
        st, text, untagged = c.cmd('EXAMINE ', name, ' (CONDSTORE)')
        if st != 'OK':
            out[name] = st
            continue
        values = {k: v for u in untagged for k, v in re.findall(rb'\[(UIDVALIDITY|UIDNEXT|HIGHESTMODSEQ) (\d+)\]', u)}
        messages = {}
        for r in c.ok('UID FETCH 1:* (FLAGS INTERNALDATE RFC822.SIZE MODSEQ BODY.PEEK[])')[2]:
            m = re.match(rb'\* \d+ FETCH \((.*)BODY\[\] \{(\d+)\}\r\n', r, re.S)
            if not m:
                continue
            head, at = m.group(1) + r[m.end() + int(m.group(2)):], m.end()
            uid = int(re.search(rb'UID (\d+)', head).group(1))
            messages[uid] = (sorted(f for f in re.search(rb'FLAGS \((.*?)\)', head).group(1).split() if f != b'\\Recent'),
                             re.search(rb'INTERNALDATE "(.*?)"', head).group(1), re.search(rb'MODSEQ \((\d+)\)', head).group(1),
                             hashlib.sha1(r[at:at + int(m.group(2))]).hexdigest())
        out[name] = (values, messages)
    quota = sorted(r.strip() for r in c.cmd('GETQUOTAROOT INBOX')[2] if r.startswith(b'* QUOTA '))
    # The same value may stand in quotes with escapes, or in a literal.
    metadata = {}
    for r in c.cmd('GETMETADATA INBOX (/shared/comment /private/comment)')[2]:
        for entry, value in re.findall(rb'(/(?:shared|private)/[a-z]+)"? (NIL|"(?:[^"\\]|\\.)*"|\{\d+\}\r\n(?s:.*?)(?= "?/(?:shared|private)/|\)\r\n$))', r):
            if value.startswith(b'"'):
                value = re.sub(rb'\\(.)', rb'\1', value[1:-1])
            elif value.startswith(b'{'):
                value = value.split(b'\r\n', 1)[1]
            metadata[entry] = value
    # Cyrus's LSUB leaves out what is not there.
    return dict(mailboxes=out, subscribed=[n for n in subscribed if n in names], quota=quota, metadata=metadata)
