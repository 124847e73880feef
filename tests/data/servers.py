"""Servers of this computer that misbehave in the ways of real ones."""

import http.server
import shutil
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit


class Served:
    """A server whose answer to each path is a list of functions of the request; the last stays."""

    def __init__(self, answers: dict):
        self.answers, self.asked = answers, []
        served = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                served.asked.append((self.path, self.headers.get("Range")))
                script = served.answers.get(self.path, [status(404)])
                (script.pop(0) if len(script) > 1 else script[0])(self)

            def log_message(self, *_):
                """Nothing is printed."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_: None  # a client that has had enough is no error
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.base = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def status(code, **headers):
    def answer(handler):
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()

    return answer


def body(data, upto=None, etag='"1"', speed=None, announced=None):
    """The bytes of a file, or those that were asked for; perhaps only up to a place, or slowly."""

    def answer(handler):
        start = 0
        asked = handler.headers.get("Range")
        if asked and handler.headers.get("If-Range") in (None, etag):
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        if start >= len(data) > 0:
            return status(416)(handler)
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        if etag:
            handler.send_header("ETag", etag)
        handler.send_header("Content-Length", str(announced or len(data) - start))
        handler.end_headers()
        end = len(data) if upto is None else max(start, upto)
        step = 16384 if speed else max(1, end - start)
        for k in range(start, end, step):
            handler.wfile.write(data[k : min(k + step, end)])
            if speed:
                time.sleep(step / speed)
        handler.close_connection = True

    return answer


def certificate(folder: Path) -> Path:
    """A certificate for `drive.google.com` that only this computer's tests trust."""
    file = folder / "drive.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
        + ["-subj", "/CN=drive.google.com", "-keyout", folder / "key.pem", "-out", file]
        + ["-addext", "subjectAltName=DNS:drive.google.com,DNS:drive.usercontent.google.com"],
        check=True,
        capture_output=True,
    )
    return file


class Drive:
    """A proxy that plays Google Drive, over TLS: gdown cannot tell it from the real one."""

    def __init__(self, folder: Path, answers: dict):
        self.answers, self.authority = answers, certificate(folder)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.authority, folder / "key.pem")
        drive = self

        class Proxy(http.server.BaseHTTPRequestHandler):
            def do_CONNECT(self):
                self.send_response(200)
                self.end_headers()
                wrapped = drive.context.wrap_socket(self.connection, server_side=True)
                Inside(wrapped, self.client_address, self.server)
                self.close_connection = True

            def log_message(self, *_):
                """Nothing is printed."""

        class Inside(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                address = urlsplit(self.path)
                key = parse_qs(address.query).get("id", [""])[0]
                confirmed = "confirm" in parse_qs(address.query)
                drive.answers[key](self, confirmed)

            def log_message(self, *_):
                """Nothing is printed."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
        self.server.handle_error = lambda *_: None
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.proxy = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def page(text, code=200):
    def answer(handler, confirmed):
        data = text.encode()
        handler.send_response(code)
        handler.send_header("Content-Type", "text/html; charset=utf-8")
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def drive_file(data, name, large=False, upto=None):
    """A file; a large one is behind a page that asks for a confirmation."""
    form = (
        '<form id="download-form" action="https://drive.usercontent.google.com/download">'
        '<input type="hidden" name="id" value="{}"><input type="hidden" name="confirm" value="t">'
        "</form>"
    )

    def answer(handler, confirmed):
        if large and not confirmed:
            key = parse_qs(urlsplit(handler.path).query)["id"][0]
            return page(f"<html><body>{form.format(key)}</body></html>")(handler, confirmed)
        start = int((handler.headers.get("Range") or "bytes=0-")[6:].rstrip("-"))
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Type", "application/octet-stream")
        handler.send_header("Content-Disposition", f'attachment; filename="{name}"')
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        handler.send_header("Content-Length", str(len(data) - start))
        handler.end_headers()
        handler.wfile.write(data[start : len(data) if upto is None or start else upto])
        handler.close_connection = True

    return answer


HAVE_OPENSSL = shutil.which("openssl") is not None


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
