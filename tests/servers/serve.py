"""Serves one of the stand-ins for AWS on a free port of 127.0.0.1 until standard input ends.

Prints the port on one line when connections are taken. Whoever starts it holds the other end of standard
input, so it ends with that process, however that one ends.
"""

import os
import socket
import sys
import threading


def end_with_parent():
    sys.stdin.buffer.read()
    os._exit(0)


def announce(port):
    print(port, flush=True)
    # What a server prints from here on goes where its errors go.
    os.dup2(2, 1)


def moto():
    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import make_server

    app = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, app, True, request_handler=MotoRequestHandler)
    announce(server.server_address[1])
    server.serve_forever()


def ministack():
    # Its own command would listen on every interface, and its MQTT server would besides.
    os.environ["IOT_MTLS_ENABLED"] = "0"
    import asyncio

    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(100)
    port = listener.getsockname()[1]
    os.environ["GATEWAY_PORT"] = str(port)
    from ministack.app import app

    config = Config()
    config.bind = [f"fd://{listener.fileno()}"]
    announce(port)
    asyncio.run(serve(app, config))


threading.Thread(target=end_with_parent, daemon=True).start()
{"moto": moto, "ministack": ministack}[sys.argv[1]]()
