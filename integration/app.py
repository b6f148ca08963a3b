"""The application behind the proxy in the tests: raw ASGI, one function per path.

`APP_LOG` names a file to which `/count` appends one line `id method pid` per request it received. `APP_LOADS` is
how many seconds the application takes to load.
"""

import asyncio
import hashlib
import json
import os
import time
import urllib.parse

PATHS = {}

time.sleep(float(os.environ.get("APP_LOADS", 0)))


def path(name):
    """Registers a function for a path."""
    return lambda function: PATHS.setdefault(name, function)


class Request:
    """What the functions below need of a request, and ways to answer it."""

    def __init__(self, scope, receive, send):
        self.scope, self.receive, self.send = scope, receive, send
        self.method = scope["method"]
        self.headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in scope["headers"]]
        self.query = dict(urllib.parse.parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))

    def header(self, name):
        return next((value for key, value in self.headers if key == name), None)

    async def pieces(self):
        """The body as it arrives."""
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ConnectionError("the client left while sending")
            yield message.get("body", b"")
            if not message.get("more_body"):
                return

    async def pause(self, seconds=0):
        """Lets `s` of the query pass."""
        await asyncio.sleep(float(self.query.get("s", seconds)))

    async def start(self, status, headers):
        headers = [(k.encode("latin-1"), v.encode("utf-8")) for k, v in headers]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def piece(self, body, more=True):
        await self.send({"type": "http.response.body", "body": body, "more_body": more})

    async def answer(self, body, status=200, headers=(), kind="text/plain"):
        await self.start(status, [("content-type", kind), ("content-length", str(len(body))), *headers])
        await self.piece(body, more=False)

    async def json(self, value):
        await self.answer(json.dumps(value).encode(), kind="application/json")


def record(request):
    """One line per request, whole or not at all: O_APPEND and a single write."""
    line = f"{request.header('x-id')} {request.method} {os.getpid()}\n"
    log = os.open(os.environ["APP_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(log, line.encode())
    os.close(log)


@path("/pid")
async def pid(request):
    await request.answer(str(os.getpid()).encode())


@path("/slow")
async def slow(request):
    """Answers after `s` seconds; with an X-Id header it is recorded first."""
    if request.header("x-id"):
        record(request)
    await request.pause()
    await request.answer(str(os.getpid()).encode())


@path("/count")
async def count(request):
    """Records the id, then answers with it."""
    async for _ in request.pieces():
        pass
    record(request)
    await request.answer(request.header("x-id").encode())


@path("/status")
async def status(request):
    await request.answer(b"as you wish", status=int(request.query["code"]))


@path("/stream")
async def stream(request):
    """`n` pieces of one line each, `s` seconds apart, chunked."""
    await request.start(200, [("content-type", "text/plain")])
    for number in range(int(request.query.get("n", 5))):
        await request.piece(f"piece {number}\n".encode())
        await request.pause(0.1)
    await request.piece(b"", more=False)


@path("/sse")
async def sse(request):
    """Events without an end."""
    await request.start(200, [("content-type", "text/event-stream"), ("cache-control", "no-cache")])
    for number in range(1000):
        await request.piece(f"data: {number}\n\n".encode())
        await request.pause(0.1)
    await request.piece(b"", more=False)


@path("/accel")
async def accel(request):
    """Hands a file to the proxy the way Galaxy does: lower-case name, path not quoted, empty body, headers of its own."""
    async for _ in request.pieces():
        pass
    headers = [
        ("content-type", request.query.get("type", "application/octet-stream")),
        ("content-length", "0"),
        ("x-accel-redirect", request.query["path"]),
        ("x-accel-buffering", "no"),
        ("content-disposition", 'attachment; filename="reads.fastq"'),
        ("set-cookie", "galaxysession=abc; HttpOnly"),
        ("set-cookie", "second=1"),
        ("access-control-allow-origin", "https://browser.example.org"),
        ("access-control-expose-headers", "Content-Length,Content-Range"),
        ("x-content-type-options", "nosniff"),
    ]
    if "etag" in request.query:
        headers.append(("etag", request.query["etag"]))
    await request.start(int(request.query.get("code", 200)), headers)
    await request.piece(b"", more=False)


@path("/archive")
async def archive(request):
    """Hands a list of files to the proxy, of which it is to make an archive."""
    await request.answer(request.query["list"].encode(), headers=[("x-archive-files", "zip")])


@path("/upload")
async def upload(request):
    """Reads a body and tells its length and SHA-256, after `s` seconds; with an X-Id header it is recorded before."""
    digest, length = hashlib.sha256(), 0
    async for piece in request.pieces():
        digest.update(piece)
        length += len(piece)
    if request.header("x-id"):
        record(request)
    await request.pause()
    await request.json({"length": length, "sha256": digest.hexdigest(), "pid": os.getpid()})


@path("/truncate")
async def truncate(request):
    """Promises 1000 bytes, sends 100 and dies."""
    await request.start(200, [("content-length", "1000")])
    await request.piece(b"x" * 100)
    await asyncio.sleep(0.1)
    os._exit(1)


@path("/cut-chunked")
async def cut_chunked(request):
    """Sends one chunk of several and dies."""
    await request.start(200, [("content-type", "text/plain")])
    await request.piece(b"x" * 100)
    await asyncio.sleep(0.1)
    os._exit(1)


@path("/die")
async def die(request):
    """Is recorded and dies without an answer."""
    record(request)
    os._exit(1)


async def echo(request):
    """Everything that arrived, in order."""
    await request.json({
        "method": request.method,
        "path": request.scope["raw_path"].decode("latin-1"),
        "query": request.scope["query_string"].decode("latin-1"),
        "headers": request.headers,
        "client": request.scope["client"],
        "pid": os.getpid(),
    })


async def websocket(receive, send):
    """Accepts and sends every message back until the client closes."""
    while (message := await receive())["type"] != "websocket.disconnect":
        if message["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        elif message.get("text") is not None:
            await send({"type": "websocket.send", "text": message["text"]})
        else:
            await send({"type": "websocket.send", "bytes": message["bytes"]})


async def app(scope, receive, send):
    """Every path that is not named above is echoed."""
    if scope["type"] == "websocket":
        await websocket(receive, send)
    elif scope["type"] == "http":
        request = Request(scope, receive, send)
        await PATHS.get(scope["path"], echo)(request)
    else:
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        await send({"type": "lifespan.shutdown.complete"})
