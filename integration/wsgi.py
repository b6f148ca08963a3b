"""A WSGI application that tells what it was asked.

`APP_LOG` names a file to which `/count` appends one line `id method pid` per request it received.
"""

import json
import os
import time


def app(environ, start_response):
    body = environ["wsgi.input"].read()
    if environ["PATH_INFO"] == "/count":
        log = os.open(os.environ["APP_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(log, f"{environ['HTTP_X_ID']} {environ['REQUEST_METHOD']} {os.getpid()}\n".encode())
        os.close(log)
        answer = environ["HTTP_X_ID"].encode()
        start_response("200 OK", [("Content-Length", str(len(answer)))])
        return [answer]
    if environ["PATH_INFO"] == "/sleep":
        time.sleep(float(environ["QUERY_STRING"]))
    told = {name: value for name, value in environ.items() if isinstance(value, str)}
    told["body"] = body.decode("latin-1")
    told["scheme"] = environ["wsgi.url_scheme"]
    answer = json.dumps(told).encode()
    if environ["PATH_INFO"] == "/redirect":
        start_response("302 Found", [("Location", "/elsewhere"), ("Content-Length", "0")])
        return [b""]
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))])
    return [answer]
