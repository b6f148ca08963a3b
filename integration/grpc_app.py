"""A gRPC server and a client without generated code: messages are bytes.

grpc_app.py serve ADDRESS: echo (unary), talk (both sides stream), fail (an error with details).
grpc_app.py call ADDRESS CERTIFICATE: calls each and prints what came; exits with 0 if all was as it should be.
grpc_app.py unary ADDRESS CERTIFICATE: one call that waits for its server.
"""

import queue
import signal
import sys
from concurrent import futures

import grpc

SERVICE = "bowshock.Test"


def echo(request, context):
    metadata = dict(context.invocation_metadata())
    context.send_initial_metadata((("x-initial", metadata.get("x-asks", "")),))
    context.set_trailing_metadata((("x-trailing", "last"), ("x-bytes-bin", b"\x00\xff")))
    return request


def talk(requests, context):
    context.set_trailing_metadata((("x-trailing", "talked"),))
    for request in requests:
        yield b"heard " + request


def fail(request, context):
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no: " + request.decode())


def serve(address):
    server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
    methods = {
        "echo": grpc.unary_unary_rpc_method_handler(echo),
        "talk": grpc.stream_stream_rpc_method_handler(talk),
        "fail": grpc.unary_unary_rpc_method_handler(fail),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    if server.add_insecure_port(address) == 0:
        sys.exit("cannot listen")
    server.start()
    print("serving", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: server.stop(5))
    server.wait_for_termination()


def connect(address, certificate):
    with open(certificate, "rb") as file:
        credentials = grpc.ssl_channel_credentials(file.read())
    options = [("grpc.ssl_target_name_override", "localhost"), ("grpc.enable_retries", 0)]
    return grpc.secure_channel(address, credentials, options=options)


def check_unary(channel):
    call = channel.unary_unary(f"/{SERVICE}/echo")
    for size in (0, 5, 100_000, 3_000_000):
        message = b"x" * size
        response, told = call.with_call(message, metadata=(("x-asks", "me"),), timeout=60)
        assert response == message, len(response)
        assert ("x-initial", "me") in told.initial_metadata(), told.initial_metadata()
        trailing = dict(told.trailing_metadata())
        assert trailing["x-trailing"] == "last" and trailing["x-bytes-bin"] == b"\x00\xff", trailing
        assert told.code() == grpc.StatusCode.OK


def check_talk(channel):
    words = queue.Queue()
    call = channel.stream_stream(f"/{SERVICE}/talk")(iter(words.get, None), timeout=60)
    # The next is said when the last was heard.
    for number in range(20):
        words.put(b"%d" % number)
        assert next(call) == b"heard %d" % number
    words.put(None)
    assert list(call) == []
    assert call.code() == grpc.StatusCode.OK
    assert ("x-trailing", "talked") in call.trailing_metadata()


def check_failures(channel):
    for method, code, details in (
        ("fail", grpc.StatusCode.FAILED_PRECONDITION, "no: why"),
        ("unknown", grpc.StatusCode.UNIMPLEMENTED, "Method not found!"),
    ):
        try:
            channel.unary_unary(f"/{SERVICE}/{method}")(b"why", timeout=60)
            sys.exit("it did not fail")
        except grpc.RpcError as error:
            assert (error.code(), error.details()) == (code, details), error


def main():
    word, address, *rest = sys.argv[1:]
    if word == "serve":
        return serve(address)
    with connect(address, *rest) as channel:
        if word == "unary":
            print(channel.unary_unary(f"/{SERVICE}/echo")(b"held", timeout=60))
        else:
            check_unary(channel)
            check_talk(channel)
            check_failures(channel)
            print("all calls were answered")


main()
