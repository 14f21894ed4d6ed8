// npm's imapflow against cyrd: what a webmail does. Run by 70-imapflow.t with the module in NODE_PATH.
'use strict';
const { ImapFlow } = require('imapflow');
const fs = require('fs');

function ok(good, name, more) {
    console.log((good ? 'ok ' : 'not ok ') + name);
    if (!good) console.log(JSON.stringify(more, (k, v) => (typeof v === 'bigint' ? String(v) : v)));
}
const equal = (got, want, name) => ok(JSON.stringify(got) === JSON.stringify(want), name, [got, want]);
const tls = { ca: fs.readFileSync(process.env.CA) };
function client(options) {
    return new ImapFlow({ host: 'localhost', port: +process.env.IMAPS, secure: true, tls, logger: false,
        auth: { user: 'alice', pass: process.env.PASSWORD }, ...options });
}
const text = n => `Message-ID: <flow-${n}@example.org>\r\nFrom: =?utf-8?Q?J=C3=BCrgen?= <j@example.org>\r\nTo: alice@example.org\r\nDate: Wed, ${n} Jan 2025 10:00:00 +0100\r\n` +
    `Subject: =?utf-8?B?R3LDvMOfZQ==?= ${n}\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nGrüße ${n}\r\n` +
    `--b\r\nContent-Type: application/octet-stream; name=a.bin\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=a.bin\r\n\r\n${Buffer.from('attachment ' + n).toString('base64')}\r\n--b--\r\n`;
async function collect(stream) { const parts = []; for await (const p of stream) parts.push(p); return Buffer.concat(parts).toString(); }
async function refused(promise, name) { try { const r = await promise; ok(r === false, name, r); } catch (e) { ok(true, name); } }

async function main() {
    const wrong = client({ auth: { user: 'alice', pass: 'wrong' } });
    wrong.on('error', () => {});
    try { await wrong.connect(); ok(false, 'a wrong password is refused'); } catch (e) { ok(e.authenticationFailed, 'a wrong password is refused', e.message); }

    const starttls = client({ port: +process.env.IMAP, secure: false });
    await starttls.connect();
    ok(starttls.secureConnection || starttls.tls, 'STARTTLS on the plain port');
    await starttls.logout();

    const c = client();
    await c.connect();
    ok(c.usable && c.authenticated, 'logged in');
    ok(c.capabilities.has('IDLE') && c.capabilities.has('MOVE') && c.capabilities.has('UIDPLUS'), 'capabilities', [...c.capabilities.keys()]);
    const list = await c.list({ statusQuery: { messages: true, unseen: true } });
    ok(list.some(b => b.path === 'Sent' && b.specialUse === '\\Sent' && b.status.messages === 0), 'list with special uses and status', list);
    equal((await c.mailboxCreate(['Über', 'Größe'])).path, 'Über/Größe', 'a mailbox with a name beyond ASCII');
    equal((await c.list()).filter(b => b.path === 'Über/Größe').length, 1, 'is listed');
    await c.mailboxRename('Über/Größe', 'Über/Länge');
    await c.mailboxSubscribe('Über/Länge');
    ok((await c.list()).find(b => b.path === 'Über/Länge').subscribed, 'renamed and subscribed');

    for (let n = 1; n <= 12; n++) {
        const r = await c.append('Über/Länge', text(n), n % 2 ? ['\\Seen'] : [], new Date(2025, 0, n));
        if (r.uid !== n) ok(false, 'APPEND ' + n, r);
    }
    ok(true, 'twelve appended, each with its UID');
    const box = await c.mailboxOpen('Über/Länge');
    ok(box.exists === 12 && box.uidNext === 13 && box.highestModseq > 0n && !box.readOnly, 'opened', box);
    const all = [];
    for await (const m of c.fetch('1:*', { uid: true, flags: true, envelope: true, bodyStructure: true, size: true, internalDate: true, source: true })) all.push(m);
    equal(all.length, 12, 'FETCH of everything');
    ok(all.every(m => m.source.toString() === text(m.uid)), 'octet for octet', all.find(m => m.source.toString() !== text(m.uid)));
    equal([all[4].envelope.subject, all[4].envelope.from[0].name, all[4].envelope.messageId], ['Grüße 5', 'Jürgen', '<flow-5@example.org>'], 'envelope, decoded');
    equal(all[4].bodyStructure.childNodes.map(p => [p.part, p.type, p.encoding || '']), [['1', 'text/plain', '7bit'], ['2', 'application/octet-stream', 'base64']].map(x => x), 'structure of parts');
    equal(all[4].bodyStructure.childNodes[1].dispositionParameters, { filename: 'a.bin' }, 'with the file\'s name');
    const d = await c.download('7', '2', { uid: true });
    equal([await collect(d.content), d.meta.filename], ['attachment 7', 'a.bin'], 'an attachment downloaded in pieces');
    equal(await collect((await c.download('8', '1', { uid: true })).content), 'Grüße 8', 'a text part, decoded') || 0;

    equal(await c.search({ seen: false }, { uid: true }), [2, 4, 6, 8, 10, 12], 'SEARCH unseen');
    equal(await c.search({ subject: 'Grüße 3' }, { uid: true }), [3], 'SEARCH subject beyond ASCII');
    equal(await c.search({ body: 'grüße 1' }, { uid: true }), [1, 10, 11, 12], 'SEARCH body regards no case');
    equal(await c.search({ or: [{ from: 'nobody' }, { uid: '2:3' }], not: { seen: true } }, { uid: true }), [2], 'SEARCH with or, not');
    equal(await c.search({ sentSince: new Date(2025, 0, 11) }, { uid: true }), [11, 12], 'SEARCH by date');
    ok(await c.messageFlagsAdd('1:3', ['\\Flagged', '$Junk'], { uid: true }), 'flags added');
    equal((await c.search({ keyword: '$Junk' }, { uid: true })), [1, 2, 3], 'SEARCH keyword');
    const one = await c.fetchOne('2', { flags: true }, { uid: true });
    ok(one.flags.has('\\Flagged') && one.flags.has('$Junk') && !one.flags.has('\\Seen'), 'the flags', [...one.flags]);
    await c.messageFlagsRemove('2', ['$Junk'], { uid: true });
    await c.messageFlagsSet('3', ['\\Answered'], { uid: true });
    equal((await c.search({ keyword: '$Junk' }, { uid: true })), [1], 'removed and set');
    if (c.enabled.has('CONDSTORE')) {
        const modseq = (await c.status('Über/Länge', { highestModseq: true })).highestModseq;
        await c.messageFlagsAdd('9', ['\\Flagged'], { uid: true });
        const changed = [];
        for await (const m of c.fetch('1:*', { uid: true, flags: true }, { changedSince: modseq })) changed.push(m.uid);
        equal(changed, [9], 'FETCH CHANGEDSINCE');
    }
    const copied = await c.messageCopy('1:2', 'Archive', { uid: true });
    equal([...copied.uidMap.values()], [1, 2], 'COPY tells the new UIDs');
    const moved = await c.messageMove('10:12', 'Archive', { uid: true });
    equal([...moved.uidMap.entries()], [[10, 3], [11, 4], [12, 5]], 'MOVE too');
    equal(c.mailbox.exists, 9, 'moved ones are gone');
    ok(await c.messageDelete('1', { uid: true }), 'deleted');
    equal(await c.search({ all: true }, { uid: true }), [2, 3, 4, 5, 6, 7, 8, 9], 'and gone');

    // IDLE: a second session appends, the first is told.
    const told = new Promise(resolve => c.on('exists', resolve));
    const gone = new Promise(resolve => c.on('expunge', resolve));
    const flagged = new Promise(resolve => c.on('flags', resolve));
    const idling = c.idle();
    const second = client();
    await second.connect();
    await second.append('Über/Länge', text(20));
    equal((await told).count, 9, 'IDLE is told of a message');
    const lock = await second.getMailboxLock('Über/Länge');
    await second.messageFlagsAdd('2', ['\\Deleted'], { uid: true });
    ok((await flagged).flags.has('\\Deleted'), 'of a flag');
    await second.messageDelete('2', { uid: true });
    ok((await gone).path === 'Über/Länge', 'of an expunged message');
    lock.release();
    await c.noop();
    await idling;
    equal(c.mailbox.exists, 8, 'counts agree');

    await refused(c.mailboxOpen('nowhere'), 'an unknown mailbox is refused');
    await refused(c.mailboxCreate('Bad%Name'), 'and a bad name');
    await c.mailboxClose();
    await c.mailboxDelete('Über/Länge');
    ok(!(await c.list()).some(b => b.path === 'Über/Länge'), 'deleted mailbox is gone');
    const q = await c.getQuota().catch(() => null);
    ok(q === false || q === null || typeof q === 'object', 'quota, where there is one');
    ok(c.serverInfo && /cyrd/i.test(c.serverInfo.name), 'ID tells who we are', c.serverInfo);
    await second.logout();
    await c.logout();
}
const limit = setTimeout(() => { console.log('not ok done in time'); process.exit(1); }, 120000);
main().then(() => { clearTimeout(limit); }, e => { console.log(e.stack, e.responseText || ''); process.exit(1); });
