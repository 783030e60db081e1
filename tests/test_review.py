"""The review of a run: decisions in files, and the server that takes them."""

import errno
import http.client
import json
import os
import signal
import tarfile
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from image_files import DIRECTIONS, scan
from PIL import Image
from review_study import LABELS, LOOKED_FOR, add_scan, ask, make_study, served, write_ranking

from landmarkflow.commands.main import main
from landmarkflow.commands.review import study_at, subject_of
from landmarkflow.core.errors import InputError
from landmarkflow.core.grids import Grid
from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import Record
from landmarkflow.data.references import check_reference
from landmarkflow.formats.landmarks import read_landmarks
from landmarkflow.formats.slicer import write_markups
from landmarkflow.images.operations import grid_of, image_on, view_of
from landmarkflow.review import niivue
from landmarkflow.review.desk import Desk
from landmarkflow.review.server import ReviewServer
from landmarkflow.review.state import read_review
from landmarkflow.review.volumes import KEPT, Volumes, move_between, turned

VIEWER = b"export const Niivue = 1;"
# Voxels of the template's landmarks, and of those of the scan `odd`.
VOXELS = np.array([[2, 2, 2], [8, 3, 2], [4, 7, 3], [5, 5, 6]], dtype=float)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A study of three scans: doubtful and lying askew, failed, and ok with one point missing."""
    template, odd = scan(), scan(DIRECTIONS["oblique"])
    made = make_study(tmp_path, template, grid_of(template).to_physical(VOXELS))
    points = grid_of(odd).to_physical(VOXELS[:3])
    doubtful = Record("odd", "place", "doubtful", "it lies askew", {"similarity": {"a": 0.5}})
    add_scan(made, "odd", odd, points, doubtful)
    add_scan(made, "lost", scan() + 1, None, Record("lost", "locate", "failed", "no target"))
    part = grid_of(template).to_physical(VOXELS[:3])
    part[1] = np.nan
    add_scan(made, "calm", scan() + 2, part, Record("calm", "place"))
    write_ranking(
        made,
        [
            {"scan": "lost", "status": "failed", "reason": "locate: no target"},
            {"scan": "odd", "status": "doubtful", "doubt": 0.75, "reason": "place: it lies askew"},
            {"scan": "calm", "status": "ok", "doubt": 0.25},
        ],
    )
    return made


@pytest.fixture
def server(made: Path) -> Iterator[ReviewServer]:
    subject = subject_of(study_at(made), made, "")
    with tempfile.TemporaryDirectory() as shown:
        desk = Desk(subject, "Ann", Volumes(Path(shown), 1 << 30))
        with ReviewServer(desk, VIEWER) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield server
            server.shutdown()


@pytest.fixture
def change(server: ReviewServer) -> Callable[..., dict[str, Any]]:
    """Changes a scan as a page does that has just read it."""

    def send(name: str, do: str, **asked: Any) -> dict[str, Any]:
        known = ask(server.url, f"scans/{name}")
        return ask(server.url, f"scans/{name}", {"do": do, "revision": known["revision"], **asked})

    return send


def reviewed(made: Path, name: str) -> Path:
    return made / f"oneshot/reviewed/{name}.mrk.json"


def point(answer: dict[str, Any], label: str) -> dict[str, Any]:
    (found,) = (one for one in answer["landmarks"] if one["label"] == label)
    return dict(found)


def points_in(path: Path) -> dict[str, dict[str, Any]]:
    (node,) = json.loads(path.read_text(encoding="utf-8"))["markups"]
    return {one["label"]: one for one in node["controlPoints"]}


# Decisions


def test_scans_come_in_the_order_of_doubt_with_what_is_in_doubt(server: ReviewServer) -> None:
    study = ask(server.url, "study")
    assert [one["scan"] for one in study["scans"]] == ["lost", "odd", "calm"]
    assert [one["doubt"] for one in study["scans"]] == [None, 0.75, 0.25]
    assert [one["decided"] for one in study["scans"]] == [0, 0, 0]
    odd = ask(server.url, "scans/odd")
    assert odd["reason"] == "place: it lies askew"
    assert (odd["picture"], odd["undo"], odd["revision"]) == (False, None, "")
    assert [one["label"] for one in odd["landmarks"]] == list(LOOKED_FOR)
    assert point(odd, "a")["similarity"] == 0.5
    assert [one["radius"] for one in odd["landmarks"]] == [0.5, 0.9, 0.7]
    assert all(one["position"] is None for one in ask(server.url, "scans/lost")["landmarks"])
    assert point(ask(server.url, "scans/calm"), "b")["radius"] is None


def test_only_what_a_person_decided_has_a_position(
    made: Path, change: Callable[..., dict[str, Any]]
) -> None:
    before = (made / "oneshot/landmarks/odd.mrk.json").read_bytes()
    answer = change("odd", "accept", landmark="a")
    found = point(answer, "a")
    assert (found["did"], found["by"]) == ("accepted", "Ann")
    assert found["at"].endswith("+00:00")
    there = [found["position"][0] + 0.3, found["position"][1], found["position"][2] + 0.4]
    answer = change("odd", "move", landmark="b", position=there)
    assert (answer["decided"], answer["of"], answer["undo"]) == (2, 3, "moved")
    stated = points_in(reviewed(made, "odd"))
    # As a reference has to hold them: every label of the template, in its order.
    assert list(stated) == list(LABELS)
    assert stated["a"]["position"] == found["position"]
    assert stated["b"]["position"] == pytest.approx(there)
    assert stated["b"]["description"].startswith("moved by Ann 20")
    assert stated["b"]["description"].endswith(" mm from the detected place")
    assert stated["a"]["review"] == {"did": "accepted", "by": "Ann", "at": found["at"]}
    for label in ("c", "d"):
        assert stated[label]["positionStatus"] == "undefined"
        assert "position" not in stated[label]
    reference = read_landmarks(reviewed(made, "odd"))
    assert reference.missing.tolist() == [False, False, True, True]
    # What the run found is as it was.
    assert (made / "oneshot/landmarks/odd.mrk.json").read_bytes() == before


def test_a_landmark_that_is_not_visible_is_missing_in_3d_slicers_words(
    made: Path, change: Callable[..., dict[str, Any]]
) -> None:
    answer = change("odd", "hide", landmark="c")
    assert (point(answer, "c")["did"], point(answer, "c")["position"]) == ("not visible", None)
    assert points_in(reviewed(made, "odd"))["c"]["positionStatus"] == "missing"
    # Somebody sees it after all.
    answer = change("odd", "accept", landmark="c")
    assert point(answer, "c")["position"] == point(answer, "c")["detected"]


def test_undo_goes_back_step_by_step_to_no_file_at_all(
    made: Path, change: Callable[..., dict[str, Any]]
) -> None:
    detected = point(change("odd", "accept", landmark="a"), "a")["detected"]
    inside = [detected[0] + 0.1, detected[1], detected[2]]
    change("odd", "move", landmark="a", position=inside)
    answer = change("odd", "accept all")
    assert [one["did"] for one in answer["landmarks"]] == ["moved", "accepted", "accepted"]
    answer = change("odd", "undo")
    assert [one["did"] for one in answer["landmarks"]] == ["moved", None, None]
    answer = change("odd", "undo")
    assert point(answer, "a")["did"] == "accepted"
    assert point(answer, "a")["position"] == detected
    change("odd", "undo")
    assert not reviewed(made, "odd").exists()
    assert change("odd", "undo") == {"status": 422, "error": "nothing is left to undo"}


def test_what_was_not_found_is_placed_and_never_accepted(
    made: Path, change: Callable[..., dict[str, Any]]
) -> None:
    refused = change("calm", "accept", landmark="b")
    assert refused["error"] == "b was not found: place it, or say that it is not visible"
    answer = change("calm", "accept all")
    assert [one["did"] for one in answer["landmarks"]] == ["accepted", None, "accepted"]
    somewhere = grid_of(scan()).to_physical([[3, 3, 3]])[0].tolist()
    for name in ("calm", "lost"):
        assert point(change(name, "move", landmark="b", position=somewhere), "b")["did"] == "placed"
    assert points_in(reviewed(made, "lost"))["b"]["position"] == pytest.approx(somewhere)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"do": "move", "landmark": "a", "position": [0, 0]}, "expected three finite numbers"),
        ({"do": "move", "landmark": "a", "position": [0, 0, "1"]}, "expected three finite numbers"),
        ({"do": "move", "landmark": "a", "position": [9e9, 0, 0]}, "lies outside the scan, x "),
        ({"do": "move", "landmark": "d", "position": [0, 0, 0]}, "there is no landmark 'd'"),
        ({"do": "accept", "landmark": ["a"]}, "there is no landmark ['a']"),
        ({"do": "delete", "landmark": "a"}, "'delete' is none of accept, accept all, move"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(
    made: Path, change: Callable[..., dict[str, Any]], asked: dict[str, Any], said: str
) -> None:
    answer = change("odd", **asked)
    assert answer["status"] == 422
    assert said in answer["error"]
    assert not reviewed(made, "odd").exists()


def test_of_two_pages_the_one_that_is_behind_changes_nothing(
    server: ReviewServer, change: Callable[..., dict[str, Any]], made: Path
) -> None:
    first = ask(server.url, "scans/odd")
    change("odd", "accept", landmark="a")
    after = reviewed(made, "odd").read_bytes()
    late = {"do": "hide", "landmark": "a", "revision": first["revision"]}
    assert ask(server.url, "scans/odd", late)["status"] == 409
    assert reviewed(made, "odd").read_bytes() == after


def test_points_that_3d_slicer_has_moved_and_saved_stay(
    made: Path, change: Callable[..., dict[str, Any]]
) -> None:
    change("odd", "accept all")
    path = reviewed(made, "odd")
    data = json.loads(path.read_text(encoding="utf-8"))
    # Slicer keeps none of our keys.
    del data["review"]
    for node in data["markups"][0]["controlPoints"]:
        node.pop("review", None)
    moved = data["markups"][0]["controlPoints"][0]["position"]
    moved[0] += 0.25
    path.write_text(json.dumps(data), encoding="utf-8")
    answer = change("odd", "hide", landmark="b")
    assert [one["did"] for one in answer["landmarks"]] == ["moved", "not visible", "accepted"]
    assert point(answer, "a")["by"] == "another program"
    assert points_in(path)["a"]["position"] == pytest.approx(moved)


@pytest.mark.parametrize("text", ["", "{", '{"markups": []}', '{"markups": [{"review": 1}]}'])
def test_a_file_that_is_none_is_never_written_over(
    made: Path, server: ReviewServer, text: str
) -> None:
    path = reviewed(made, "odd")
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    asked = {"do": "accept", "landmark": "a", "revision": ""}
    answer = ask(server.url, "scans/odd", asked)
    assert answer["status"] == 422
    assert str(path) in answer["error"]
    assert path.read_text(encoding="utf-8") == text
    # The other scans can be looked at.
    reasons = {one["scan"]: one["reason"] for one in ask(server.url, "study")["scans"]}
    assert str(path) in reasons.pop("odd")
    assert reasons == {"lost": "locate: no target", "calm": ""}


def test_nothing_that_was_answered_is_lost_when_the_server_is_killed(made: Path) -> None:
    grid = grid_of(scan(DIRECTIONS["oblique"]))
    saved = None
    for start in (0, 10):
        with served(made, f"Ann {start}") as (url, process):
            answer = ask(url, "scans/odd")
            # It goes on from what the one before has written.
            assert point(answer, "a")["position"] == (saved or point(answer, "a")["detected"])
            for number in range(start, start + 8):
                place = grid.to_physical([[2 + number / 10, 2, 2]])[0].round(4).tolist()
                asked = {"do": "move", "landmark": "a", "position": place}
                answer = ask(url, "scans/odd", {**asked, "revision": answer["revision"]})
                saved = point(answer, "a")["position"]
                if number == start + 4:
                    os.kill(process.pid, signal.SIGKILL)
                    process.wait()
                    break
        review = read_review(reviewed(made, "odd"), Landmarks((), np.empty((0, 3))))
        assert list(review.decisions["a"].position or ()) == saved == place
        assert review.decisions["a"].by == f"Ann {start}"
    assert [step.by for step in review.history] == ["Ann 0"] * 5 + ["Ann 10"] * 5
    # A file that was being written when the machine stopped is not taken for one of a scan.
    assert [path.name for path in reviewed(made, "odd").parent.glob("*.json")] == ["odd.mrk.json"]


# The server


def raw(server: ReviewServer, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
    """Status and content of an address that is sent as it stands."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content


def test_the_page_and_its_files_are_sent_behind_the_token_with_a_strict_policy(
    server: ReviewServer,
) -> None:
    with urllib.request.urlopen(server.url) as answer:
        page, policy = answer.read().decode(), answer.headers["Content-Security-Policy"]
        assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert "default-src 'none'; script-src 'self'" in policy
    assert "http" not in policy
    for name in ("main.js", "viewer.js", "server.js", "lists.js", "frames.js", "page.css"):
        assert raw(server, f"/{server.token}/{name}")[0] == 200
        # Nothing on the page asks for anything elsewhere.
        assert b"https://" not in raw(server, f"/{server.token}/{name}")[1]
    assert 'src="main.js"' in page
    assert raw(server, f"/{server.token}/niivue.js") == (200, VIEWER)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_without_the_token_nothing_is_answered(server: ReviewServer, method: str) -> None:
    wrong = "A" * len(server.token)
    for path in (
        "/",
        "/study",
        f"/{wrong}/study",
        f"/{server.token[:-1]}/study",
        "study",
        f"/{server.token}",
        "/%C3%A4/study",
        f"/{wrong}/",
        f"/?{server.token}/study",
        f"http://127.0.0.1/{server.token}/study",
    ):
        status, content = raw(server, path, method)
        assert status == 403, path
        assert server.token.encode() not in content
    assert raw(server, f"/{server.token}/study")[0] == 200


def test_a_page_whose_name_points_here_gets_no_answer(server: ReviewServer) -> None:
    path, port = f"/{server.token}/study", server.port
    for host in (
        f"evil.example:{port}",
        "evil.example",
        "127.0.0.1",
        f"127.0.0.1:{port + 1}",
        "",
        f"127.0.0.1.evil.example:{port}",
        f"localhost:{port}@evil.example",
    ):
        assert raw(server, path, Host=host)[0] == 403, host
    for host in (f"127.0.0.1:{port}", f"localhost:{port}"):
        assert raw(server, path, Host=host)[0] == 200
    assert raw(server, path, Origin="http://evil.example")[0] == 403
    assert raw(server, path, Origin="null")[0] == 403
    assert raw(server, path, Origin=f"http://127.0.0.1:{port}")[0] == 200


def test_the_port_is_open_on_the_loopback_interface_alone(server: ReviewServer) -> None:
    assert server.server_address[0] == "127.0.0.1"


def test_no_file_outside_the_study_can_be_reached(
    server: ReviewServer, made: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.mrk.json"
    secret.write_text("secret", encoding="utf-8")
    tries = [
        "../secret.mrk.json",
        "..%2fsecret.mrk.json",
        "%2e%2e/secret.mrk.json",
        str(secret),
        f"scans/{secret}",
        "scans/../../secret.mrk",
        "scans/..%2f..%2fsecret",
        "volumes/..",
        "scans/%2e%2e%2fodd",
        "page/../server.py",
        "../server.py",
        "scans/odd/",
        "scans/odd?x",
        "volumes//etc/passwd",
        "templates/odd%00",
        "scans/ODD",
        "scans/template",
        "scans/",
        "main.js/../../server.py",
        "....//server.py",
        "volumes/odd.nii",
        "\\..\\secret",
    ]
    for place in tries:
        status, content = raw(server, f"/{server.token}/{place}")
        assert (status, b"secret" in content.replace(b"secret.mrk", b"")) == (404, False), place
    # A link in the study that leads out of it.
    points = made / "oneshot/landmarks/calm.mrk.json"
    points.unlink()
    points.symlink_to(secret)
    status, content = raw(server, f"/{server.token}/scans/calm")
    assert status == 422
    assert b"leads out of" in content
    (made / "oneshot/reviewed").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "elsewhere").mkdir()
    asked = {"do": "accept", "landmark": "a", "revision": ""}
    assert "leads out of" in ask(server.url, "scans/odd", asked)["error"]
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize(
    ("headers", "content", "status"),
    [
        ({"Content-Type": "text/plain"}, b"{}", 415),
        ({"Content-Type": "application/json"}, b"[]", 400),
        ({"Content-Type": "application/json"}, b"{", 400),
        ({"Content-Type": "application/json"}, b"[" * 60000, 400),
        ({"Content-Type": "application/json"}, b" " * 70000, 413),
        ({"Content-Type": "application/json", "Content-Length": "-1"}, b"", 413),
    ],
)
def test_requests_that_no_page_of_ours_sends_are_refused(
    server: ReviewServer, made: Path, headers: dict[str, str], content: bytes, status: int
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("POST", f"/{server.token}/scans/odd", content, headers)
    assert connection.getresponse().status == status
    connection.close()
    assert not reviewed(made, "odd").exists()


def test_a_volume_that_is_made_leaves_no_file_behind(server: ReviewServer, tmp_path: Path) -> None:
    place = f"/{server.token}/volumes/odd"
    assert raw(server, place, "HEAD") == (200, b"")
    whole = raw(server, place)[1]
    assert len(whole) == 352 + 2 * 12 * 10 * 8
    folder = server.desk._volumes._folder
    assert list(folder.iterdir()) == []
    # Others are made until the first is dropped; it is made again.
    for number in range(KEPT):
        server.desk._volumes.scan(str(number), server.desk._subject.scans["odd"]).close()
    assert raw(server, place)[1] == whole


def test_volumes_are_nifti_on_the_scans_own_grid(server: ReviewServer, tmp_path: Path) -> None:
    path = tmp_path / "odd.nii"
    path.write_bytes(raw(server, f"/{server.token}/volumes/odd")[1])
    shown, grid = nib.load(path), grid_of(scan(DIRECTIONS["oblique"]))
    # NIfTI is RAS.
    place = shown.affine @ [3, 4, 5, 1]
    expected = grid.to_physical([[3, 4, 5]])[0] * [-1, -1, 1]
    assert place[:3] == pytest.approx(expected, abs=1e-3)
    assert shown.header["cal_min"] < shown.header["cal_max"]


def test_the_template_lies_as_the_scan_does_with_its_landmarks_in_their_voxels(
    server: ReviewServer, tmp_path: Path
) -> None:
    path = tmp_path / "template.nii"
    path.write_bytes(raw(server, f"/{server.token}/templates/odd")[1])
    answer = ask(server.url, "scans/odd")
    for one in answer["landmarks"]:
        # The scan is the template, turned: so are the landmarks.
        assert one["template"] == pytest.approx(one["detected"], abs=1e-3)
    shown = nib.load(path)
    direction = shown.affine[:3, :3] / np.linalg.norm(shown.affine[:3, :3], axis=0)
    assert direction == pytest.approx(np.diag([-1, -1, 1]) @ DIRECTIONS["oblique"], abs=1e-5)


def test_the_template_turns_once_enough_points_are_placed_in_a_scan_without_any(
    change: Callable[..., dict[str, Any]],
) -> None:
    grid = grid_of(scan())
    for label, voxel in zip(LOOKED_FOR, VOXELS, strict=False):
        at = (grid.to_physical([voxel])[0] + [0.2, 0, 0]).tolist()
        answer = change("lost", "move", landmark=label, position=at)
        assert answer["turned"] == (label == "c")
    assert point(answer, "a")["template"] == pytest.approx(point(answer, "a")["position"])


def test_a_disk_that_is_full_is_said(
    made: Path, change: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "odd.mrk.json")

    monkeypatch.setattr("landmarkflow.core.files.os.fsync", fail)
    answer = change("odd", "accept", landmark="a")
    assert answer == {"status": 500, "error": "odd.mrk.json: No space left on device"}
    assert not reviewed(made, "odd").exists()


@pytest.mark.parametrize("mirrored", [False, True])
def test_what_is_marked_in_the_template_lies_under_its_mark_once_turned(mirrored: bool) -> None:
    grid = Grid((30, 24, 20), np.array([0.5, 0.5, 0.8]), np.array([3.0, -9.0, 20.0]), np.eye(3))
    index = np.indices(grid.size[::-1])[::-1]
    marks = np.array([[20.0, 6, 8], [4, 18, 12], [8, 4, 15], [15, 12, 3]])
    squares = [((index - mark[:, None, None, None]) ** 2).sum(axis=0) for mark in marks]
    image = image_on(grid, sum(np.exp(-square / 4) for square in squares).astype(np.float32))
    here = Landmarks(LABELS, grid.to_physical(marks))
    mirror = np.diag([-1.0 if mirrored else 1.0, 1.0, 1.0])
    turn = DIRECTIONS["oblique"] @ mirror
    there = Landmarks(LABELS, here.positions @ turn.T + [50, 0, -10])
    move = move_between(here, there, mirrored=mirrored)
    assert move is not None
    shown = turned(image, move, DIRECTIONS["permuted"])
    values = view_of(shown)
    for place in grid_of(shown).to_index(there.positions).round().astype(int):
        assert values[tuple(place[::-1])] > 0.7
    assert values.sum() * np.prod(shown.GetSpacing()) == pytest.approx(
        view_of(image).sum() * np.prod(image.GetSpacing()), rel=0.02
    )


def test_a_mirrored_scan_is_shown_a_mirrored_template() -> None:
    here = Landmarks(LABELS, VOXELS)
    there = Landmarks(LABELS, VOXELS * [-1, 1, 1] @ DIRECTIONS["oblique"].T + 7)
    move = move_between(here, there, mirrored=True)
    assert move is not None
    assert move.points(VOXELS) == pytest.approx(there.positions)
    assert np.linalg.det(move.matrix) == pytest.approx(-1)
    turned = move_between(here, there, mirrored=False)
    assert turned is not None
    assert np.linalg.det(turned.matrix) == pytest.approx(1)
    line = Landmarks(LABELS, np.outer(np.arange(4.0), [1, 2, 3]))
    assert move_between(line, there, mirrored=False) is None
    assert move_between(Landmarks(("z",), np.zeros((1, 3))), there, mirrored=False) is None


# NiiVue and the command


def test_another_file_is_not_taken_for_niivue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    other = tmp_path / "other.tgz"
    with tarfile.open(other, "w:gz") as archive:
        archive.add(__file__, niivue.BUNDLE)
    for given, url in ((other, niivue.URL), (None, other.as_uri())):
        with pytest.raises(InputError, match=rf"has the SHA-256 \w+, expected {niivue.SHA256} of"):
            niivue.bundle(given, url)
    assert not niivue.cache().exists()
    assert niivue.cache() == tmp_path / "landmarkflow"


def test_without_a_network_a_sentence_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(InputError, match="fetch it where there is a network and name the file"):
        niivue.bundle(url="http://127.0.0.1:9/niivue.tgz")
    with pytest.raises(InputError, match=r"no\.tgz: cannot be read"):
        niivue.bundle(tmp_path / "no.tgz")


def test_niivue_is_taken_from_the_cache_and_fetched_again_where_it_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        whole = niivue.bundle()
    except InputError as error:
        pytest.skip(str(error))
    package = niivue.cache() / niivue.NAME
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cached = niivue.cache() / niivue.NAME
    cached.parent.mkdir()
    cached.write_bytes(b"half of it")
    assert niivue.bundle(url=package.as_uri()) == whole
    assert cached.read_bytes() == package.read_bytes()
    assert niivue.bundle(url="http://127.0.0.1:9/") == whole
    assert niivue.bundle(package, url="http://127.0.0.1:9/") == whole


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere: holds no config.yaml, expected results/<study>"),
        (["ears", "--run", "two"], "--run two: the study has no such run, expected one of oneshot"),
        (["ears", "--reviewer", "a\nb"], "--reviewer 'a\\nb': expected a name in one line"),
    ],
)
def test_what_stands_in_the_way_is_said(
    made: Path,
    arguments: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(made.parent)
    assert main(["review", *arguments]) == 1
    assert capsys.readouterr().err == f"landmarkflow: {said}\n"


def test_a_port_that_is_taken_is_said(server: ReviewServer) -> None:
    for port in (server.port, 99999):
        with pytest.raises(InputError, match=rf"--port {port}: cannot be opened \(.+\), expected"):
            ReviewServer(server.desk, VIEWER, port)


def test_a_run_that_is_not_finished_is_refused(made: Path) -> None:
    (made / "oneshot/scans.csv").unlink()
    with pytest.raises(InputError, match=r"holds no scans\.csv, expected a finished run"):
        subject_of(study_at(made), made, "")


# As references


def test_reviewed_landmarks_are_references_of_scans_without_any(
    made: Path, change: Callable[..., dict[str, Any]]
) -> None:
    change("odd", "accept", landmark="a")
    given = made.parents[1] / "given"
    (given / "landmarks").mkdir()
    own = given / "landmarks/calm.mrk.json"
    own.write_bytes((given / "template/landmarks.mrk.json").read_bytes())
    change("calm", "accept", landmark="a")
    path = made / "config.yaml"
    text = path.read_text(encoding="utf-8")
    folder = made / "oneshot/reviewed"
    path.write_text(text.replace("data:\n", f"data:\n  reviewed: {folder}\n"), encoding="utf-8")
    scans = study_at(made).scans
    assert {name: one.landmarks for name, one in scans.items()} == {
        "calm": str(own),
        "lost": "",
        "odd": str(folder / "odd.mrk.json"),
    }
    # As such they are checked like any: what is undecided is not annotated.
    reviewed_in = read_landmarks(folder / "odd.mrk.json")
    image = scan(DIRECTIONS["oblique"])
    checked = check_reference(reviewed_in, grid_of(image), LABELS, folder / "odd.mrk.json")
    assert checked.missing.tolist() == [False, True, True, True]
    path.write_text(text.replace("data:\n", "data:\n  reviewed: nowhere\n"), encoding="utf-8")
    with pytest.raises(InputError, match=r"`data.reviewed`: nowhere: no such folder, expected"):
        study_at(made)


def test_each_side_of_a_scan_has_its_own_reviewed_landmarks(made: Path) -> None:
    folder = made / "oneshot/reviewed"
    folder.mkdir()
    (folder / "odd-left.mrk.json").write_bytes(
        (made.parents[1] / "given/template/landmarks.mrk.json").read_bytes()
    )
    path = made / "config.yaml"
    stated = f"data:\n  reviewed: {folder}\n  targets: all\n  template_side: left\n"
    path.write_text(path.read_text(encoding="utf-8").replace("data:\n", stated), encoding="utf-8")
    scans = study_at(made).scans
    assert scans["odd-left"].landmarks == str(folder / "odd-left.mrk.json")
    assert scans["odd-right"].landmarks == ""


def test_pictures_are_one_plane_and_their_template_is_not_turned(tmp_path: Path) -> None:
    values = np.arange(20 * 30, dtype=np.uint8).reshape(1, 20, 30)
    flat = image_on(Grid((30, 20, 1), np.ones(3), np.zeros(3), np.eye(3)), values)
    made = make_study(tmp_path, scan(), VOXELS)
    given = tmp_path / "given"
    for name in ("template/scan.nii.gz", "template/landmarks.mrk.json"):
        (given / name).unlink()
    points = VOXELS * [1, 1, 0]
    marks = PointList("reference", Landmarks(LABELS, points), None)
    write_markups(given / "template/landmarks.mrk.json", [marks])
    Image.fromarray(values[0]).save(given / "template/scan.png")
    add_scan(made, "flat", flat, points[:3], Record("flat", "place"))
    (given / "scans/flat.nii.gz").unlink()
    Image.fromarray(values[0] + 1).save(given / "scans/flat.png")
    write_ranking(made, [{"scan": "flat", "status": "ok"}])
    desk = Desk(subject_of(study_at(made), made, ""), "Ann", Volumes(tmp_path, 1 << 30))
    answer = desk.scan("flat")
    assert (answer["picture"], answer["turned"]) == (True, False)
    asked = {"do": "move", "landmark": "a", "position": [3.5, 4.25, 0], "revision": ""}
    assert point(desk.change("flat", asked), "a")["position"] == (3.5, 4.25, 0.0)
    with desk.volume("flat") as file:
        shown = nib.Nifti1Image.from_bytes(file.read())
    assert shown.shape[:2] == (30, 20)
    assert (shown.affine @ [3, 4, 0, 1])[:3].tolist() == [-3, -4, 0]
