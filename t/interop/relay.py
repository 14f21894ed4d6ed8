#!/usr/bin/env python3
"""relay.py PORT HOST:PORT DIR - pass LMTP through, and keep what the client sent between DATA and its end, dots still doubled.

One file a message, DIR/<connection>.<number>. "LISTENING" on standard output when it takes connections.
"""
import asyncio
import itertools
import sys

port, (host, to), directory = int(sys.argv[1]), sys.argv[2].split(':'), sys.argv[3]
connections = itertools.count()


async def client(reader, writer):
    """Follow the replies as little as needed: a 354 says that the next octets are a message."""
    number, messages = next(connections), itertools.count()
    up_reader, up_writer = await asyncio.open_connection(host, int(to), limit=1 << 16)
    state = {'data': False, 'buf': bytearray()}

    async def downwards():
        line = b''
        while True:
            octets = await up_reader.read(65536)
            if not octets:
                break
            line += octets
            lines = line.split(b'\r\n')
            line = lines.pop()
            if any(x.startswith(b'354') for x in lines):
                state['data'], state['buf'] = True, bytearray()
            writer.write(octets)
            await writer.drain()
        writer.close()

    down = asyncio.ensure_future(downwards())
    while True:
        octets = await reader.read(1 << 18)
        if not octets:
            break
        if state['data']:
            # Dots are doubled: the first CRLF.CRLF is the end. QUIT may follow in the same octets.
            buf, seen = state['buf'], len(state['buf'])
            buf += octets
            end = 3 if buf.startswith(b'.\r\n') else buf.find(b'\r\n.\r\n', max(0, seen - 4)) + 5
            if end >= 5 or end == 3:
                state['data'] = False
                with open('%s/%d.%d' % (directory, number, next(messages)), 'wb') as f:
                    f.write(buf[:end - 3])
        up_writer.write(octets)
        await up_writer.drain()
    up_writer.close()
    await down


async def main():
    server = await asyncio.start_server(client, '127.0.0.1', port)
    print('LISTENING', flush=True)
    async with server:
        await server.serve_forever()

asyncio.run(main())
