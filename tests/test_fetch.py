"""Downloads: cut ones are made again, wrong ones refused, and no part of one is left."""

import hashlib
import http.server
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from landmarkflow.core.errors import InputError
from landmarkflow.data import fetch as module
from landmarkflow.data.fetch import fetch

CONTENT = bytes(range(256)) * 400
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Origin:
    """A server on this machine, and how it answers.

    Attributes:
        url: of its one file.
        cut: the answers that end early, counted from 0.
        length: how an answer states its length: "stated", "chunked" or "none".
        status: of every answer.
        answers: given so far.
    """

    url: str
    cut: frozenset[int] = frozenset()
    length: str = "stated"
    status: int = 200
    answers: list[int] = field(default_factory=list)


@pytest.fixture
def origin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Origin]:
    monkeypatch.setattr(module, "PAUSE_S", 0.001)
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            number = len(state.answers)
            state.answers.append(number)
            self.send_response(state.status)
            body = CONTENT[: len(CONTENT) // 2] if number in state.cut else CONTENT
            if state.length == "stated":
                self.send_header("Content-Length", str(len(CONTENT)))
            elif state.length == "chunked":
                self.send_header("Transfer-Encoding", "chunked")
                end = b"" if number in state.cut else b"\r\n0\r\n\r\n"
                body = f"{len(CONTENT):x}\r\n".encode() + body + end
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    Handler.protocol_version = "HTTP/1.1"
    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
        server.allow_reuse_address = True
        state = Origin(f"http://127.0.0.1:{server.server_address[1]}/scan.nii.gz")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield state
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("length", ["stated", "chunked", "none"])
def test_a_cut_download_is_made_again(origin: Origin, tmp_path: Path, length: str) -> None:
    origin.cut, origin.length = frozenset({0}), length
    fetch(origin.url, DIGEST, tmp_path / "data/scan.nii.gz")
    assert (tmp_path / "data/scan.nii.gz").read_bytes() == CONTENT
    assert len(origin.answers) == 2


@pytest.mark.parametrize(
    ("length", "reason"),
    [
        ("stated", "ended after 51200 of 102400 bytes"),
        ("chunked", r"IncompleteRead\(.*\)"),
        ("none", f"has the SHA-256 [0-9a-f]{{64}}, expected {DIGEST}"),
    ],
)
def test_one_that_is_always_cut_is_refused(
    origin: Origin, tmp_path: Path, length: str, reason: str
) -> None:
    origin.cut, origin.length = frozenset(range(9)), length
    expected = rf"^{origin.url}: cannot be fetched after 5 attempts \({reason}\)$"
    with pytest.raises(InputError, match=expected):
        fetch(origin.url, DIGEST, tmp_path / "scan.nii.gz")
    assert len(origin.answers) == 5
    assert list(tmp_path.iterdir()) == []


def test_a_whole_file_with_other_content_is_refused_at_once(origin: Origin, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"^{origin.url}: has the SHA-256 {DIGEST}, expected 00$"):
        fetch(origin.url, "00", tmp_path / "scan.nii.gz")
    assert len(origin.answers) == 1
    assert list(tmp_path.iterdir()) == []


def test_an_answer_without_the_file_is_asked_for_again(origin: Origin, tmp_path: Path) -> None:
    origin.status = 503
    with pytest.raises(InputError, match=r"after 5 attempts \(HTTP Error 503: .*\)$"):
        fetch(origin.url, DIGEST, tmp_path / "scan.nii.gz")


def test_a_full_disk_is_no_broken_connection(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.shutil, "copyfileobj", full)
    with pytest.raises(OSError, match="No space left"):
        fetch(origin.url, DIGEST, tmp_path / "scan.nii.gz")
    assert len(origin.answers) == 1
