"""The page's server: on the loopback interface, for whoever knows the token in its address.

The standard library's server is enough: one person asks for some small files and a volume at a
time. A framework would bring its own dependencies into an environment where every package is pinned
and would check neither the token nor the host. Paths are never made from what is asked: an address
is compared with the few that there are, and a scan is looked up by its id.
"""

import json
import os
import re
import secrets
import sys
import traceback
from collections.abc import Callable
from contextlib import closing
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO

from landmarkflow.core.errors import InputError
from landmarkflow.review.desk import Desk, Stale

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")
PAGE = Path(__file__).parent / "page"
INDEX = "index.html"
VIEWER = "niivue.js"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
JSON = "application/json"
VOLUME = "application/octet-stream"
SCAN = re.compile(r"(scans|volumes|templates)/([A-Za-z0-9_-]+)")
# Of a change that the page asks for: a landmark and a position.
LARGEST_ASKED_BYTES = 64 * 1024
# NiiVue keeps its font and materials as data: addresses, and paints colour maps through blobs.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' data: blob:; "
        "img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class ReviewServer(ThreadingHTTPServer):
    """Serves one run's scans until it is stopped.

    Attributes:
        token: what an address must begin with.
    """

    daemon_threads = True

    def __init__(self, desk: Desk, viewer: bytes, port: int = 0) -> None:
        """Open the port; 0 takes a free one.

        Raises:
            InputError: the port is taken.
        """
        self.desk = desk
        self.token = secrets.token_urlsafe(32)
        self.files = {path.name: path.read_bytes() for path in PAGE.iterdir() if path.is_file()}
        self.files[VIEWER] = viewer
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(
                f"--port {port}: cannot be opened ({reason}), expected a free one, or 0"
            ) from None

    @property
    def port(self) -> int:
        """The port that is open."""
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://{HOST}:{self.port}/{self.token}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a browser that went away; show every defect."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            traceback.print_exc()


class _Handler(BaseHTTPRequestHandler):
    server: ReviewServer
    protocol_version = "HTTP/1.1"
    # Of a connection on which nothing is said.
    timeout = 60
    server_version = "landmarkflow"
    sys_version = ""

    def do_GET(self) -> None:
        """Send a file of the page, what there is of a scan, or a volume."""
        place = self._place()
        if place is None:
            return
        desk = self.server.desk
        name = place or INDEX
        if name in self.server.files:
            self._send(TYPES[Path(name).suffix], self.server.files[name])
        elif place == "study":
            self._answer(desk.study)
        elif (found := SCAN.fullmatch(place)) and found[2] in desk.names:
            kind, scan = found.groups()
            if kind == "scans":
                self._answer(lambda: desk.scan(scan))
            else:
                self._send_volume(desk.volume if kind == "volumes" else desk.template, scan)
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "there is nothing at this address")

    def do_HEAD(self) -> None:
        """Make a volume that will be looked at next."""
        self.do_GET()

    def do_POST(self) -> None:
        """Change what is decided about a scan."""
        place = self._place()
        if place is None:
            return
        found = SCAN.fullmatch(place)
        if not found or found[1] != "scans" or found[2] not in self.server.desk.names:
            self._refuse(HTTPStatus.NOT_FOUND, "there is nothing to change at this address")
            return
        size = self.headers.get("Content-Length", "")
        if not size.isdecimal() or int(size) > LARGEST_ASKED_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "expected a small request")
            return
        # A form on another page can send no JSON without asking first.
        if self.headers.get("Content-Type") != JSON:
            self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"expected {JSON}")
            return
        try:
            asked = json.loads(self.rfile.read(int(size)))
        except (ValueError, RecursionError):
            asked = None
        if not isinstance(asked, dict):
            self._refuse(HTTPStatus.BAD_REQUEST, "expected a JSON object")
            return
        self._answer(lambda: self.server.desk.change(found[2], asked))

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: lines would hold the token."""

    def _place(self) -> str | None:
        """What is asked for, behind the token; None, once refused, for who may not ask.

        A page of another site that has its name point here sends that name as the host. One that
        asks from a browser states its origin, which is then ours or it is refused.
        """
        ours = [f"{name}:{self.server.port}" for name in NAMES]
        hosts = self.headers.get_all("Host", [])
        origin = self.headers.get("Origin")
        _, _, rest = self.path.partition("/")
        token, slash, place = rest.partition("/")
        same = secrets.compare_digest(token.encode(), self.server.token.encode())
        is_ours = len(hosts) == 1 and hosts[0] in ours
        is_ours &= origin is None or origin in [f"http://{host}" for host in ours]
        if not (same and slash and self.path.startswith("/") and is_ours):
            self._refuse(HTTPStatus.FORBIDDEN, "expected the address that the program printed")
            return None
        return place

    def _answer(self, answer: Callable[[], dict[str, Any]]) -> None:
        try:
            self._send(JSON, json.dumps(answer(), allow_nan=False).encode())
        except InputError as error:
            self._refuse(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
        except Stale:
            self._refuse(HTTPStatus.CONFLICT, "the file has changed since the page read it")
        except ConnectionError:
            raise
        except OSError as error:
            # A full disk, say: the page must hear that nothing is saved.
            reason = f"{error.filename}: {error.strerror}"
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, reason)

    def _send_volume(self, opened: Callable[[str], BinaryIO], scan: str) -> None:
        try:
            file = opened(scan)
        except InputError as error:
            self._refuse(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
            return
        with closing(file):
            size = os.fstat(file.fileno()).st_size
            self._head(HTTPStatus.OK, VOLUME, size)
            if self.command != "HEAD":
                self.connection.sendfile(file, 0, size)

    def _refuse(self, status: HTTPStatus, sentence: str) -> None:
        # What was sent with it is not read: the connection can carry no further request.
        self.close_connection = True
        self._send(JSON, json.dumps({"error": sentence}).encode(), status)

    def _send(self, kind: str, content: bytes, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._head(status, kind, len(content))
        if self.command != "HEAD":
            self.wfile.write(content)

    def _head(self, status: HTTPStatus, kind: str, size: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(size))
        for name, value in HEADERS.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
