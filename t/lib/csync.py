"""csync - a client of the replication protocol, for t/replication and t/interop: raw, what is sent is what the caller wrote.

Items are written by item(), parsed by parse(): a kvlist is a dict, a list a list, an atom or string bytes, NIL None, a file a File.
CRCs and records are computed here anew, from the protocol's description, so that the server's own are checked by something else.
"""
import base64
import hashlib
import re
import zlib

from cyrd import ADMIN, Closed, PASSWORD, Stream


class File:
    def __init__(self, partition, octets, guid=None, size=None):
        self.partition, self.octets = partition, octets
        self.guid = guid or hashlib.sha1(octets).hexdigest()
        self.size = len(octets) if size is None else size

    def __bytes__(self):
        return b'%%{%s %s %d}\r\n' % (self.partition.encode(), self.guid.encode(), self.size) + self.octets


class Raw(bytes):
    """Sent as it is."""


ATOM = re.compile(rb'^[A-Za-z0-9_.@$/:,!<>=+#&\'^|~;?`-]+$')


def item(value):
    if value is None:
        return b'NIL'
    if isinstance(value, Raw):
        return bytes(value)
    if isinstance(value, File):
        return bytes(value)
    if isinstance(value, dict):
        return b'%(' + b' '.join(k.encode() + b' ' + item(v) for k, v in value.items()) + b')'
    if isinstance(value, (list, tuple)):
        return b'(' + b' '.join(item(v) for v in value) + b')'
    if isinstance(value, int):
        return b'%d' % value
    if isinstance(value, str):
        value = value.encode()
    if ATOM.match(value) and value != b'NIL' or re.match(rb'^\\[A-Za-z]+$', value):
        return value
    if len(value) < 1024 and not re.search(rb'["\\%\r\n\x80-\xff\0]', value):
        return b'"' + value + b'"'
    return b'{%d+}\r\n' % len(value) + value


class Csync(Stream):
    def __init__(self, port, login=ADMIN, banner=True, **kw):
        super().__init__(port, **kw)
        self.inflate = None
        self.capabilities = self.banner() if banner else []
        if login:
            r = self.authenticate(login)
            assert r.startswith('OK'), r

    def _more(self):
        """As of Stream, through DEFLATE."""
        if not self.inflate:
            return super()._more()
        try:
            got = self.sock.recv(262144)
        except OSError as e:
            raise Closed(str(e) or 'no answer')
        if not got:
            self.eof = True
            raise Closed('hung up')
        self.buf += self.inflate.decompress(got)

    def send(self, octets):
        if self.inflate:
            octets = self.deflate.compress(octets) + self.deflate.flush(zlib.Z_SYNC_FLUSH)
        super().send(octets)

    def compress(self):
        self.send(b'COMPRESS DEFLATE\r\n')
        r = self.text()
        assert r == 'OK DEFLATE active', r
        self.deflate, self.inflate = zlib.compressobj(6, zlib.DEFLATED, -15), zlib.decompressobj(-15)

    def text(self):
        return self.line().decode('utf-8', 'replace').rstrip('\r\n')

    def banner(self):
        lines = []
        while True:
            lines.append(self.text())
            if lines[-1].startswith('* OK'):
                return lines

    def authenticate(self, user, password=PASSWORD):
        self.send(b'AUTHENTICATE PLAIN ' + base64.b64encode(b'\0%s\0%s' % (user.encode(), password.encode())) + b'\r\n')
        return self.text()

    # ---- reading ----

    def octet(self):
        return self.take(1)

    def value(self):
        c = self.octet()
        if c == b'(':
            out = []
            while True:
                c = self.octet()
                if c == b')':
                    return out
                if c != b' ':
                    self.buf[:0] = c
                    out.append(self.value())
        if c == b'%':
            c = self.octet()
            if c == b'(':
                out = {}
                while True:
                    c = self.octet()
                    if c == b')':
                        return out
                    if c != b' ':
                        self.buf[:0] = c
                        key = self.value().decode()
                        assert self.octet() == b' '
                        out[key] = self.value()
            assert c == b'{', c
            head = b''
            while not head.endswith(b'}\r\n'):
                head += self.octet()
            partition, guid, size = head[:-3].split(b' ')
            return File(partition.decode(), self.take(int(size)), guid.decode())
        if c == b'"':
            out = b''
            while True:
                c = self.octet()
                if c == b'"':
                    return out
                out += self.octet() if c == b'\\' else c
        if c == b'{':
            head = b''
            while not head.endswith(b'}\r\n'):
                head += self.octet()
            assert b'+' not in head, 'a server never writes {n+}'
            return self.take(int(head[:-3]))
        out = c
        while True:
            c = self.octet()
            if c in b' )\r\n':
                self.buf[:0] = c
                return None if out == b'NIL' else out
            out += c

    def response(self, tag=b''):
        """(final line, [(key, value), …])"""
        untagged = []
        while True:
            first = self.octet()
            if first != b'*' or tag == b'*':
                self.buf[:0] = first
                return self.text(), untagged
            assert self.octet() == b' '
            key = b''
            while True:
                c = self.octet()
                if c in (b' ', b'\n'):
                    break
                key += c
            untagged.append((key.decode(), self.value()))
            assert self.take(2) == b'\r\n'

    def raw(self, octets):
        self.send(octets)
        return self.response()

    def cmd(self, verb, key, value):
        return self.raw(verb.encode() + b' ' + key.encode() + b' ' + item(value) + b'\r\n')

    def get(self, key, value):
        return self.cmd('GET', key, value)

    def apply(self, key, value):
        return self.cmd('APPLY', key, value)

    def bye(self):
        self.send(b'EXIT\r\n')
        return self.text()


class ImapCsync(Csync):
    """The same inside IMAP."""
    def __init__(self, port, login=ADMIN, **kw):
        super().__init__(port, login=None, banner=False, **kw)
        self.greeting, self.n = self.text(), 0
        self.send(b'A01 AUTHENTICATE PLAIN ' + base64.b64encode(b'\0%s\0%s' % (login.encode(), PASSWORD.encode())) + b'\r\n')
        self.login = self.text()

    def cmd(self, verb, key, value):
        return self.raw_sync(verb.encode() + b' ' + key.encode() + b' ' + item(value))

    def raw_sync(self, line):
        tag = b'S%d' % self.n
        self.n += 1
        self.send(tag + b' SYNC' + line + b'\r\n')
        final, untagged = self.response()
        assert final.startswith(tag.decode() + ' '), final
        return final[len(tag) + 1:], untagged


# ---- what a master would send ----

def crc(record):
    flags = 0
    for f in record['FLAGS']:
        flags ^= zlib.crc32(f.lower().encode())
    return zlib.crc32(b'%d %d %d (%d) %d %s' % (record['UID'], record['MODSEQ'], record['LAST_UPDATED'], flags, record['INTERNALDATE'],
                                                record['GUID'].encode()))


def crcs(records):
    basic, annot = 0, 12345678
    for r in records:
        if '\\Expunged' in r['FLAGS']:
            continue
        basic ^= crc(r)
        for a in r.get('ANNOTATIONS', []):
            value = a['VALUE'] if isinstance(a['VALUE'], bytes) else a['VALUE'].encode()
            if a['ENTRY'].endswith('/thrid'):
                value = value.lstrip(b'0')
            annot ^= zlib.crc32(b'%d %s %s ' % (r['UID'], a['ENTRY'].encode(), a['USERID'].encode()) + value)
    return basic, annot


V = '/vendor/cmu/cyrus-imapd/'


def record(uid, modseq, octets, flags=(), when=1700000000, annots=(), virtual=True, **more):
    annotations = [dict(ENTRY=e, USERID=u, MODSEQ=modseq, VALUE=v) for e, u, v in annots]
    if virtual:
        annotations += [dict(ENTRY=V + 'savedate', USERID='', MODSEQ=0, VALUE='%d' % when),
                        dict(ENTRY=V + 'createdmodseq', USERID='', MODSEQ=0, VALUE='%d' % modseq)]
    r = dict(UID=uid, MODSEQ=modseq, LAST_UPDATED=when, FLAGS=list(flags), INTERNALDATE=when, SIZE=len(octets),
             GUID=hashlib.sha1(octets).hexdigest(), ANNOTATIONS=annotations)
    r.update(more)
    return r


def mailbox(name, uniqueid, records=(), all_records=None, **more):
    records = list(records)
    basic, annot = crcs(records if all_records is None else all_records)
    top = max([r['MODSEQ'] for r in records] + [1])
    m = dict(UNIQUEID=uniqueid, MBOXNAME=name, SYNC_CRC=basic, SYNC_CRC_ANNOT=annot, LAST_UID=max([r['UID'] for r in records] + [0]),
             HIGHESTMODSEQ=top, RECENTUID=0, RECENTTIME=0, LAST_APPENDDATE=1700000000, POP3_LAST_LOGIN=0, POP3_SHOW_AFTER=0,
             UIDVALIDITY=1700000001, PARTITION='default', ACL='user1\tlrswipkxtecdan\t', OPTIONS='P', CREATEDMODSEQ=1, FOLDERMODSEQ=1,
             RECORD=records)
    m.update(more)
    return {k: v for k, v in m.items() if v is not Ellipsis}
