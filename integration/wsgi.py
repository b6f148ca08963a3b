"""A WSGI application that tells what it was asked."""

import json


def app(environ, start_response):
    body = environ["wsgi.input"].read()
    told = {name: value for name, value in environ.items() if isinstance(value, str)}
    told["body"] = body.decode("latin-1")
    told["scheme"] = environ["wsgi.url_scheme"]
    answer = json.dumps(told).encode()
    if environ["PATH_INFO"] == "/redirect":
        start_response("302 Found", [("Location", "/elsewhere"), ("Content-Length", "0")])
        return [b""]
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))])
    return [answer]
