"""Old WSGI servers, which speak HTTP/1.0 or nearly so: `old_servers.py paste|waitress|wsgiref PORT`.

The application is that of `wsgi.py`, with some paths for bodies without a length.
"""

import io
import os
import sys
import time

from wsgi import app as told


def streamed(count, pause):
    for number in range(count):
        yield b"part %d\n" % number
        time.sleep(pause)


def app(environ, start_response):
    length = int(environ.get("CONTENT_LENGTH") or 0)
    environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(length) if length else b"")
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
    headers = [("Content-Type", "text/plain")]
    if path == "/open":
        start_response("200 OK", headers)
        return streamed(int(query), 0)
    if path == "/stream":
        start_response("200 OK", headers)
        return streamed(1000, 0.05)
    if path == "/sized":
        body = b"x" * int(query)
        start_response("200 OK", [*headers, ("Content-Length", str(len(body)))])
        return [body if environ["REQUEST_METHOD"] != "HEAD" else b""]
    if path == "/unchanged":
        start_response("304 Not Modified", [("ETag", '"a"')])
        return [b""]
    if path == "/pid":
        body = str(os.getpid()).encode()
        start_response("200 OK", [*headers, ("Content-Length", str(len(body)))])
        return [body]
    return told(environ, start_response)


def paste(port):
    # As in the universe_wsgi.ini of a Galaxy of old.
    from paste.deploy import loadserver

    name = f"paste-{port}.ini"
    with open(name, "w") as file:
        file.write(
            f"[server:main]\nuse = egg:Paste#http\nport = {port}\nhost = 127.0.0.1\n"
            "use_threadpool = true\nthreadpool_workers = 10\nthreadpool_kill_thread_limit = 10800\n"
        )
    loadserver(f"config:{name}", relative_to=os.getcwd())(app)


def waitress(port):
    from waitress import serve

    serve(app, host="127.0.0.1", port=port)


def wsgiref(port):
    from wsgiref.simple_server import make_server

    make_server("127.0.0.1", port, app).serve_forever()


if __name__ == "__main__":
    {"paste": paste, "waitress": waitress, "wsgiref": wsgiref}[sys.argv[1]](int(sys.argv[2]))
