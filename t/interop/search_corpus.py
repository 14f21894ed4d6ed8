#!/usr/bin/env python3
"""SEARCH against what Python's email package makes of the same messages. Run by 65-search.t; the directory of messages is its argument.

Every message is appended; then words that Python finds in decoded subjects, addresses and text parts are searched for
with SUBJECT, FROM, BODY and TEXT, and the answer has to be exactly the set of messages in which Python finds them.
"""
import email
import email.errors
import email.header
import email.policy
import imaplib
import os
import random
import re
import ssl
import sys
import unicodedata


def canonical(text):
    return unicodedata.normalize('NFD', ''.join(c.title() if len(c.title()) == 1 else c for c in text)).casefold()


def decoded(value):
    """A header field's text; what cannot be decoded stays as it is."""
    out = ''
    try:
        for part, charset in email.header.decode_header(value):
            out += part if isinstance(part, str) else part.decode(charset or 'latin-1', 'replace')
    except Exception:
        return value
    return out


def parts(message):
    """As message.walk(), but what is in message/partial, message/delivery-status and the like is no part of it."""
    yield message
    kind = message.get_content_type()
    if message.is_multipart() and (kind.startswith('multipart/') or kind in ('message/rfc822', 'message/global')):
        for inner in message.get_payload():
            yield from parts(inner)


def text_parts(message):
    for part in parts(message):
        if part.get_content_maintype() == 'text' and not part.is_multipart():
            octets = part.get_payload(decode=True) or b''
            charset = part.get_content_charset() or 'utf-8'
            try:
                yield octets.decode(charset, 'replace')
            except LookupError:
                yield octets.decode('utf-8', 'replace')


class Message:
    def __init__(self, octets):
        self.octets = octets
        m = email.message_from_bytes(octets, policy=email.policy.compat32)
        self.subject = canonical(decoded(str(m.get('Subject', ''))))
        self.sender = canonical(decoded(str(m.get('From', ''))))
        self.body = [canonical(t) for t in text_parts(m)]
        fields = [canonical('%s: %s' % (k, decoded(str(v)))) for part in parts(m) for k, v in part.items()]
        self.text = self.body + fields

    def has(self, key, word):
        if key == 'SUBJECT':
            return word in self.subject
        if key == 'FROM':
            return word in self.sender
        return any(word in t for t in (self.body if key == 'BODY' else self.text))


def different(m):
    """Python's header ends at a line that is no field, and a type out of grammar is text: ours goes on, and it is not."""
    return any(isinstance(d, email.errors.MissingHeaderBodySeparatorDefect) for d in m.defects) or '/' not in m.get('Content-Type', '/')


def words(texts, n):
    found = sorted({w for t in texts for w in re.findall(r'\w{4,12}', t)})
    return random.sample(found, min(n, len(found)))


def main():
    directory = sys.argv[1]
    random.seed(20)
    c = imaplib.IMAP4('localhost', int(os.environ['IMAP']))
    c.starttls(ssl.create_default_context(cafile=os.environ['CA']))
    c.login('alice', os.environ['PASSWORD'])
    c.create('corpus')
    messages = []
    for name in sorted(os.listdir(directory)):
        path = os.path.join(directory, name)
        if not os.path.isfile(path) or name.endswith(('.mbox.txt', '.md')):
            continue
        with open(path, 'rb') as f:
            octets = re.sub(rb'\r?\n', b'\r\n', f.read())
        if not octets or b'\0' in octets or different(email.message_from_bytes(octets, policy=email.policy.compat32)):
            continue
        kind, data = c.append('corpus', None, None, octets)
        if kind != 'OK':
            print('# %s: %s' % (name, data))
            continue
        messages.append(Message(octets))
    c.select('corpus', readonly=True)
    failures = 0
    for key, texts in (('SUBJECT', [m.subject for m in messages]), ('FROM', [m.sender for m in messages]),
                       ('BODY', [t for m in messages for t in m.body]), ('TEXT', [t for m in messages for t in m.text])):
        wrong = []
        for word in words(texts, 150):
            c.literal = word.encode()
            kind, data = c.search('UTF-8', key)
            got = {int(n) for n in data[0].split()} if kind == 'OK' and data[0] else set()
            want = {i + 1 for i, m in enumerate(messages) if m.has(key, word)}
            if kind != 'OK' or got != want:
                wrong.append('%r: %s, Python finds it in %s' % (word, sorted(got), sorted(want)))
        failures += bool(wrong)
        print('%s%s: as Python finds it, in %d messages' % ('not ok ' if wrong else 'ok ', key, len(messages)))
        for w in wrong[:20]:
            print('# ' + w)
    c.logout()
    return 1 if failures else 0


if __name__ == '__main__':
    sys.exit(main())
