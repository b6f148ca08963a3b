"""A client and a server of `websockets` with a proxy between: `websockets_check.py PORT URL...`.

Messages of all sizes and codings, fragments, pings and close codes come through as they are.
"""

import asyncio
import os
import random
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

SIZES = (0, 1, 125, 126, 127, 65535, 65536, 262144, 262145, 3_000_000)
CODES = (1000, 1001, 1003, 1008, 1011, 1012, 1013, 3000, 4999)

closes = []


async def echo(ws):
    try:
        async for message in ws:
            if isinstance(message, str) and message.startswith("close:"):
                await ws.close(int(message.split(":")[1]), "why not")
                return
            if message == "fragments":
                await ws.send([b"a" * 70_000, b"b", b"c" * 300_000])
            else:
                await ws.send(message)
    except ConnectionClosed:
        pass
    closes.append((ws.close_code, ws.close_reason))


async def eventually(check):
    for _ in range(500):
        if check():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(closes)


async def messages(url, options):
    async with connect(url, **options) as ws:
        agreed = "Sec-WebSocket-Extensions" in ws.response.headers
        assert agreed == (options["compression"] is not None), ws.response.headers
        for size in SIZES:
            for data in (os.urandom(size), "x" * size):
                await ws.send(data)
                assert await ws.recv() == data, size
        await ws.send("fragments")
        assert len(await ws.recv()) == 370_001
        await ws.send([b"1" * 100_000, b"", b"2"])
        assert len(await ws.recv()) == 100_001
        for length in range(1, 126):
            pong = await ws.ping(os.urandom(length))
        await asyncio.wait_for(pong, 10)

        async def send():
            for _ in range(200):
                await ws.send(os.urandom(random.randrange(60_000)))

        async def receive():
            for _ in range(200):
                await ws.recv()

        await asyncio.gather(send(), receive())


async def closing(url, options):
    for code in CODES:
        async with connect(url, **options) as ws:
            await ws.send(f"close:{code}")
            try:
                await ws.recv()
                raise AssertionError("it is open")
            except ConnectionClosed as closed:
                assert (closed.rcvd.code, closed.rcvd.reason) == (code, "why not"), closed
        closes.clear()
        ws = await connect(url, **options)
        await ws.close(code, "bye")
        await eventually(lambda: closes == [(code, "bye")])
    closes.clear()
    ws = await connect(url, **options)
    ws.transport.abort()
    await eventually(lambda: [code for code, _ in closes] == [1006])


async def beside(url, options):
    async with connect(url, **options) as ws:
        for _ in range(5):
            data = os.urandom(random.randrange(200_000))
            await ws.send(data)
            assert await ws.recv() == data


async def main(port, urls):
    async with serve(echo, "127.0.0.1", port, max_size=None, ping_interval=None):
        for url in urls:
            options = {"max_size": None, "ping_interval": None}
            if url.startswith("wss:"):
                options["ssl"] = ssl.create_default_context()
                options["ssl"].check_hostname = False
                options["ssl"].verify_mode = ssl.CERT_NONE
            for compression in (None, "deflate"):
                options["compression"] = compression
                await messages(url, options)
                await closing(url, options)
                await asyncio.gather(*(beside(url, options) for _ in range(30)))


asyncio.run(main(int(sys.argv[1]), sys.argv[2:]))
