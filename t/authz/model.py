"""model - who may do what, written from RFC 4314 (section 4), the ACL sections of the extensions' RFCs and what Cyrus's manual says of
`admins` and of owners; not from the daemon's code.

Rights are sets of letters. A mailbox is a Box; who asks is a Who. The verdict on a command that names a mailbox is one word:
  OK            it is done
  NOPERM        NO: he may look the mailbox up (l), but not do this
  NONEXISTENT   NO, in the very words used for a mailbox that is not there
  TRYCREATE     the same for COPY and its like, to somebody who could make such a mailbox
or one that a command has of its own (EXISTS, CANNOT, ...).
"""
ALL = 'lrswipkxtean'
OWNER = set('lkxan')            # implicit_owner_rights: no ACL takes them away
ADMIN = set('la')               # of `admins`, everywhere


class Who:
    """userid; groups: names without "group:"; admin: in `admins`; own: has mailboxes of his own."""
    def __init__(self, userid, admin=False, groups=(), own=True):
        self.userid, self.admin, self.groups, self.own = userid, admin, groups, own

    def is_named(self, identifier):
        if identifier == 'anyone':
            return True
        if identifier.startswith('group:'):
            return identifier[6:] in self.groups
        return identifier == self.userid


class Box:
    """name: internal ("user.joe.Sent"); acl: [(identifier, rights)], None: there is no such mailbox."""
    def __init__(self, name, acl):
        self.name, self.acl = name, acl

    @property
    def exists(self):
        return self.acl is not None

    @property
    def owner(self):
        parts = self.name.split('.')
        return parts[1] if parts[0] == 'user' else None

    @property
    def deleted(self):
        return self.name.startswith('DELETED.')

    @property
    def inbox(self):
        return self.owner is not None and self.name.count('.') == 1

    @property
    def parent(self):
        return None if self.inbox or '.' not in self.name else self.name.rpartition('.')[0]


def rights(box, who):
    """RFC 4314 2: what is granted to him, his groups and anyone, less the negative rights of the same; then what is implicit."""
    if not box.exists or (box.deleted and not who.admin):
        return set()
    given, taken = set(), set()
    for identifier, letters in box.acl:
        if identifier.startswith('-') and who.is_named(identifier[1:]):
            taken |= set(letters)
        elif who.is_named(identifier):
            given |= set(letters)
    given -= taken
    if box.owner == who.userid:
        given |= OWNER
    if who.admin:
        given |= ADMIN
    return given


class World:
    """All boxes by name."""
    def __init__(self, boxes):
        self.boxes = {b.name: b for b in boxes}

    def find(self, name):
        return self.boxes.get(name) or Box(name, None)

    def may_create(self, box, who):
        """The k right on the nearest mailbox above (RFC 4314 4, CREATE). Admins make top-level ones, users, and all below users that
        there are."""
        if box.deleted:
            return False
        if who.admin:
            return box.owner is None or box.inbox or self.find('user.' + box.owner).exists
        above = box.parent
        while above and not self.find(above).exists:
            above = self.find(above).parent
        return above is not None and 'k' in rights(self.find(above), who)


class Needs:
    """What a command needs: on the selected mailbox (all of `selected` and one of `selected_any`), on those it names (all of `named` and one of
    `any`), above a new one."""
    def __init__(self, selected='', selected_any='', named='', any='', above='', trycreate=False, admin_exempt=False, admin_only=False):
        self.selected, self.selected_any = set(selected), set(selected_any)
        self.named, self.any, self.above = set(named), set(any), set(above)
        self.trycreate, self.admin_exempt, self.admin_only = trycreate, admin_exempt, admin_only

    def enough(self, r, who):
        return (who.admin and self.admin_exempt) or (self.named <= r and (not self.any or bool(self.any & r)))


TARGET = dict(named='i', above='k', trycreate=True)
METADATA = dict(named='l', any='rswip', admin_exempt=True)       # RFC 5464 3.3
NEEDS = {
    # RFC 4314 4
    'LIST': Needs(named='l'), 'LSUB': Needs(named='l'), 'SUBSCRIBE': Needs(named='l'), 'UNSUBSCRIBE': Needs(),
    'CREATE': Needs(above='k'), 'DELETE': Needs(named='x'), 'RENAME': Needs(named='x', above='k', admin_exempt=True),
    'SELECT': Needs(named='r'), 'EXAMINE': Needs(named='r'), 'STATUS': Needs(named='r'),
    'SETACL': Needs(named='a'), 'DELETEACL': Needs(named='a'), 'GETACL': Needs(named='a'), 'LISTRIGHTS': Needs(named='a'),
    'MYRIGHTS': Needs(any='lrikxa'),
    'APPEND': Needs(**TARGET), 'COPY': Needs(selected='r', **TARGET), 'EXPUNGE': Needs(selected='re'),
    'FETCH': Needs(selected='r'), 'STORE': Needs(selected='r'), 'SEARCH': Needs(selected='r'), 'CLOSE': Needs(), 'CHECK': Needs(),
    # their like
    'SORT': Needs(selected='r'), 'THREAD': Needs(selected='r'), 'UNSELECT': Needs(), 'CANCELUPDATE': Needs(), 'IDLE': Needs(),
    'RLIST': Needs(named='l'), 'RLSUB': Needs(named='l'), 'XLIST': Needs(named='l'),
    'MOVE': Needs(selected='rte', **TARGET),                    # RFC 6851 4.2: STORE, COPY and EXPUNGE
    'REPLACE': Needs(selected='rte', **TARGET),                 # RFC 8508 4.1
    'XRUNANNOTATOR': Needs(selected='r', selected_any='wn'),    # Cyrus's: either of the rights to change what it sets
    'ESEARCH': Needs(named='r'),                                # RFC 7377 2.2
    'NOTIFY': Needs(named='lr'),                                # RFC 5465 5
    'GETMETADATA': Needs(**METADATA), 'SETMETADATA': Needs(**METADATA),
    'GETANNOTATION': Needs(**METADATA), 'SETANNOTATION': Needs(**METADATA),
    'GETQUOTA': Needs(), 'GETQUOTAROOT': Needs(named='r', above='k', admin_exempt=True),         # RFC 9208 6
    'SETQUOTA': Needs(admin_only=True),
    'SYNCAPPLY': Needs(admin_only=True), 'SYNCGET': Needs(admin_only=True), 'SYNCRESTART': Needs(admin_only=True), 'SYNCRESTORE': Needs(admin_only=True),
    'GENURLAUTH': Needs(named='r'), 'URLFETCH': Needs(named='r'), 'RESETKEY': Needs(named='r'),  # RFC 4467
    # no mailbox
    'AUTHENTICATE': Needs(), 'LOGIN': Needs(), 'STARTTLS': Needs(), 'LOGOUT': Needs(), 'UNAUTHENTICATE': Needs(), 'CAPABILITY': Needs(),
    'NOOP': Needs(), 'ID': Needs(), 'ENABLE': Needs(), 'NAMESPACE': Needs(), 'COMPRESS': Needs(),
}
ANY_STATE = {'CAPABILITY', 'NOOP', 'LOGOUT', 'ID'}
BEFORE_LOGIN = {'AUTHENTICATE', 'LOGIN', 'STARTTLS'}
WHEN_SELECTED = {'CHECK', 'CLOSE', 'UNSELECT', 'EXPUNGE', 'FETCH', 'STORE', 'SEARCH', 'SORT', 'THREAD', 'COPY', 'MOVE', 'REPLACE', 'CANCELUPDATE',
                 'XRUNANNOTATOR'}


def refused(r, world, box, who, needs):
    """How a mailbox is refused on which he has the rights `r`."""
    if 'l' in r:
        return 'NOPERM'
    return 'TRYCREATE' if needs.trycreate and world.may_create(box, who) else 'NONEXISTENT'


def verdict(command, world, box, who):
    """A command that needs what its row says, on a box that it names."""
    needs, r = NEEDS[command], rights(box, who)
    if needs.admin_only and not who.admin:
        return 'NOPERM'
    if box.exists and needs.enough(r, who) and (r or who.admin):
        return 'OK'
    return refused(r, world, box, who, needs)


def append_annotated(world, box, who, right):
    """RFC 5257 3.4: n for shared annotations, r for one's own, beside what APPEND needs."""
    v = verdict('APPEND', world, box, who)
    return 'NOPERM' if v == 'OK' and right not in rights(box, who) else v


def create(world, box, who):
    """A name that is taken by a mailbox he may not see is the one thing that cannot be hidden from who may create beside it: he hears what
    he would without the right."""
    if box.deleted and who.admin:
        return 'EXISTS' if box.exists else 'CANNOT'
    if 'l' in rights(box, who):
        return 'EXISTS'
    if not world.may_create(box, who):
        return 'NOPERM'
    if box.exists:
        return 'EXISTS' if who.admin or box.owner == who.userid else 'NOPERM'
    return 'OK'


def delete(world, box, who):
    """Nobody deletes his INBOX; another's, and with it the user, only admins do. What is deleted already, admins delete for good."""
    r = rights(box, who)
    if box.inbox and box.owner == who.userid:
        return 'CANNOT'
    if not box.exists or not r:
        return 'NONEXISTENT'
    if who.admin and box.deleted:
        return 'OK'
    if 'x' not in r:
        return refused(r, world, box, who, NEEDS['DELETE'])
    return 'NOPERM' if box.inbox and not who.admin else 'OK'


def rename(world, source, target, who):
    """x on the old name, k above the new one. An INBOX moves a whole user: for admins. And the implicit rights of an owner are not to be
    had by moving a mailbox into one's own tree: another owner needs the a right, which could have given them anyway."""
    r = rights(source, who)
    if not source.exists or not (r or who.admin):
        return 'NONEXISTENT'
    if not who.admin:
        if 'x' not in r:
            return refused(r, world, source, who, NEEDS['RENAME'])
        if source.inbox and source.owner != who.userid:
            return 'NOPERM'
        if source.owner != target.owner and 'a' not in r:
            return 'NOPERM'
    elif source.inbox:
        return 'CANNOT'                         # without allowusermoves
    return create(world, target, who)


FLAG_RIGHT = {'\\Seen': 's', '\\Deleted': 't', '\\Flagged': 'w', '\\Answered': 'w', '\\Draft': 'w', 'kw': 'w'}


def kept(flags, r):
    """Of flags that are appended or copied those that he may set (RFC 4314 4)."""
    return {f for f in flags if FLAG_RIGHT[f] in r}


def store(flags, r):
    return 'OK' if kept(flags, r) else 'NOPERM'


def setmetadata(world, box, who, entry):
    """Shared entries are for who may write to the mailbox (w), as in Cyrus; RFC 5464 lets a server be stricter."""
    v = verdict('SETMETADATA', world, box, who)
    if v == 'OK' and entry.startswith('/shared') and not who.admin and 'w' not in rights(box, who):
        return 'NOPERM'
    return v


# POP3 (RFC 1939) with popuseacl: rights on one's own INBOX. None: without a log-in.
POP3 = {'USER': None, 'PASS': None, 'AUTH': None, 'STLS': None, 'CAPA': '', 'NOOP': '', 'QUIT': '', 'RSET': '',
        'STAT': 'r', 'LIST': 'r', 'UIDL': 'r', 'LAST': 'r', 'RETR': 'r', 'TOP': 'r', 'DELE': 't'}
POP3_BOTH = {'CAPA', 'NOOP', 'QUIT'}
# LMTP (RFC 2033): what only a trusted client may say.
LMTP = {'LHLO': False, 'HELO': False, 'EHLO': False, 'NOOP': False, 'QUIT': False, 'RSET': False, 'VRFY': False, 'AUTH': False,
        'STARTTLS': False, 'MAIL': True, 'RCPT': True, 'DATA': True}
# cyrctl's operations: for the daemon's own user (and root) alone. Those that change nothing.
CONTROL_READS = {'acl.get', 'check', 'config', 'df', 'expunged.list', 'failover.status', 'info', 'list', 'list.check', 'mailbox.entry', 'mailbox.info',
                 'message.guids', 'message.read', 'metadata.list', 'metrics', 'quota.list', 'readers', 'seen.own', 'sessions', 'status',
                 'sync.quarantine', 'sync.status', 'sync.verify', 'top', 'trace.list', 'user.info', 'user.list'}
CONTROL_CHANGES = {'acl.set', 'expire', 'expunged.restore', 'failover.alone', 'failover.init', 'failover.join', 'failover.promote', 'handover', 'mailbox.create', 'mailbox.delete', 'mailbox.load',
                   'mailbox.move', 'mailbox.rename', 'mailbox.specialuse', 'message.append', 'message.purge', 'metadata.set', 'quota.delete', 'quota.fix',
                   'quota.set', 'readers.prune', 'reconstruct', 'seen.own.remove', 'sessions.kick', 'sync.client', 'sync.now', 'sync.reset', 'sync.retry', 'sync.roll', 'temporary.end', 'trace.off',
                   'trace.on', 'user.create', 'user.delete', 'user.move', 'user.rename'}
