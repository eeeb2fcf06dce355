"""A real S3 server in a process of its own, and a proxy before it that does what stores do on bad
days."""

import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=int(sys.argv[1]))
server.start()
sys.stdin.read()
"""
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "a-very-secret-key",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_MAX_ATTEMPTS": "1",
}
# Asked with a request's method and path: a status to answer with, seconds to wait before going on,
# or how many bytes of the body to let through. None: nothing happens.
Fault = Callable[[str, str], "tuple[str, float] | None"]


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def answers(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def moto() -> Iterator[str]:
    """The URL of a server that begins empty."""
    port = free_port()
    command = [sys.executable, "-W", "ignore", "-c", SERVER, str(port)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, env=os.environ | ENVIRONMENT, **quiet
    ) as it:
        try:
            deadline_s = time.monotonic() + 60
            while not answers(port):
                assert time.monotonic() < deadline_s
                assert it.poll() is None
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            it.kill()


class Proxy:
    """Hands requests on to a server, unless `fault` says what goes wrong. `requests` counts those
    for objects' bytes, by path; `down` and `up` end it and bring it back at the same place."""

    def __init__(self, server: str) -> None:
        self.fault: Fault = lambda method, path: None
        self.requests: list[tuple[str, str, str]] = []
        self._behind = server.removeprefix("http://")
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self.up()

    def up(self) -> None:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def hand_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                proxy.requests.append((self.command, self.path, self.headers.get("Range", "")))
                what, amount = proxy.fault(self.command, self.path) or ("", 0)
                if what == "wait":
                    time.sleep(amount)
                if what == "status":
                    self.send_response(int(amount))
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                behind = http.client.HTTPConnection(proxy._behind)
                behind.request(self.command, self.path, body, dict(self.headers))
                answer = behind.getresponse()
                content = answer.read()
                behind.close()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("transfer-encoding", "connection", "date", "server"):
                        self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content[: int(amount)] if what == "cut" else content)
                if what == "cut":
                    self.close_connection = True

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = hand_on

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass  # who asked has gone

        self._server = Server(("127.0.0.1", self._port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def down(self) -> None:
        self._server.shutdown()
        self._server.server_close()
