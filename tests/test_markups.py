import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landmarkflow.core.errors import InputError
from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.formats.landmarks import read_landmarks
from landmarkflow.formats.slicer import read_point_lists, write_markups, write_steps
from landmarkflow.formats.tables import write_points_csv

LPS = {"apex": [-37.8, -18.0, 26.25], "oval window": [42.5, 13.5, -28.0]}


def in_frame(frame: str) -> dict[str, list[float]]:
    sign = np.array([1, 1, 1] if frame == "LPS" else [-1, -1, 1])
    return {label: (sign * position).tolist() for label, position in LPS.items()}


def node(frame: Any = "LPS", **more: Any) -> dict[str, Any]:
    points = in_frame("RAS" if frame in ("RAS", "0", 0) else "LPS")
    return {
        "type": "Fiducial",
        "coordinateSystem": frame,
        "controlPoints": [{"label": name, "position": xyz} for name, xyz in points.items()],
    } | more


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def fcsv(frame: str | None, stated: str | None) -> str:
    lines = ["# Markups fiducial file version = 4.11"]
    if stated is not None:
        lines.append(f"# CoordinateSystem = {stated}")
    lines.append("# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID")
    for number, (label, (x, y, z)) in enumerate(in_frame(frame or "LPS").items()):
        lines.append(f"vtkMRMLMarkupsFiducialNode_{number},{x},{y},{z},0,0,0,1,1,1,0,{label},,")
    return "\n".join(lines) + "\n"


def csv_table(frame: str, comment: str = "", column: str | None = None) -> str:
    lines = [comment] if comment else []
    lines.append("label,x,y,z" + (",frame" if column is not None else ""))
    for label, (x, y, z) in in_frame(frame).items():
        lines.append(f"{label},{x},{y},{z}" + (f",{column}" if column is not None else ""))
    return "\n".join(lines) + "\n"


def assert_lps(landmarks: Landmarks) -> None:
    assert landmarks.labels == tuple(LPS)
    np.testing.assert_allclose(landmarks.positions, list(LPS.values()))


def refused(path: Path, *given: Any) -> str:
    """Returns the message of the refusal, which names the file and is one line."""
    with pytest.raises(InputError) as error:
        read_landmarks(path, *given)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("frame", ["LPS", "RAS", "0", "1", 0, 1])
def test_slicer_markups_become_lps(tmp_path: Path, frame: Any) -> None:
    path = write(tmp_path / "a.mrk.json", {"markups": [node(frame, coordinateUnits="mm")]})
    assert_lps(read_landmarks(path))


@pytest.mark.parametrize(
    ("frame", "stated"), [("LPS", "LPS"), ("RAS", "RAS"), ("RAS", "0"), ("LPS", "1")]
)
def test_fcsv_becomes_lps(tmp_path: Path, frame: str, stated: str) -> None:
    assert_lps(read_landmarks(write(tmp_path / "a.fcsv", fcsv(frame, stated))))


def test_fcsv_takes_labels_in_quotes_and_the_fields_of_later_versions(tmp_path: Path) -> None:
    text = fcsv("LPS", "LPS") + '3,1,2,3,0,0,0,1,1,1,0,"a, ""b""",note,,2,0\n'
    landmarks = read_landmarks(write(tmp_path / "a.fcsv", text))
    assert landmarks.labels[2] == 'a, "b"'
    assert landmarks.positions[2].tolist() == [1, 2, 3]


@pytest.mark.parametrize("frame", ["LPS", "RAS"])
@pytest.mark.parametrize("comment", ["# frame: {}", "#frame={}", "# Frame: {},,,"])
def test_csv_with_its_frame_in_a_comment(tmp_path: Path, frame: str, comment: str) -> None:
    text = csv_table(frame, comment.format(frame))
    assert_lps(read_landmarks(write(tmp_path / "a.csv", text)))


@pytest.mark.parametrize("frame", ["LPS", "RAS"])
def test_csv_with_its_frame_in_a_column(tmp_path: Path, frame: str) -> None:
    text = csv_table(frame, column=frame)
    assert_lps(read_landmarks(write(tmp_path / "a.csv", text)))


def test_csv_in_the_bytes_of_a_spreadsheet(tmp_path: Path) -> None:
    text = "\ufeff" + csv_table("RAS", column="RAS").replace("\n", "\r\n") + ",,,,\r\n"
    (tmp_path / "a.csv").write_bytes(text.encode())
    assert_lps(read_landmarks(tmp_path / "a.csv"))


@pytest.mark.parametrize("frame", ["LPS", "RAS"])
def test_plain_json(tmp_path: Path, frame: str) -> None:
    path = write(tmp_path / "a.json", {"frame": frame, **in_frame(frame)})
    assert_lps(read_landmarks(path))


@pytest.mark.parametrize("frame", ["LPS", "RAS"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.mrk.json", lambda frame: {"markups": [node(frame) | {"coordinateSystem": None}]}),
        ("a.fcsv", lambda frame: fcsv(frame, None)),
        ("a.csv", csv_table),
        ("a.json", in_frame),
    ],
)
def test_a_file_without_a_frame_needs_one_from_the_caller(
    tmp_path: Path, name: str, content: Any, frame: str
) -> None:
    path = write(tmp_path / name, content(frame))
    assert "does not state its frame" in refused(path)
    assert_lps(read_landmarks(path, frame))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.mrk.json", {"markups": [node("RAS")]}),
        ("a.fcsv", fcsv("RAS", "0")),
        ("a.csv", csv_table("RAS", "# frame: RAS")),
        ("a.json", {"frame": "RAS", **in_frame("RAS")}),
    ],
)
def test_a_file_and_a_caller_that_disagree_are_refused(
    tmp_path: Path, name: str, content: Any
) -> None:
    path = write(tmp_path / name, content)
    assert "states the frame RAS, but LPS was said" in refused(path, "LPS")
    assert_lps(read_landmarks(path, "RAS"))


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.mrk.json", {"markups": [node("IJK")]}, "states the frame 'IJK'"),
        ("a.mrk.json", {"markups": [node(coordinateUnits="um")]}, "coordinateUnits 'um'"),
        ("a.mrk.json", {"markups": []}, 'no list "markups"'),
        ("a.mrk.json", {"markups": [3]}, "markups 1 is 3"),
        ("a.mrk.json", {"markups": [node(controlPoints=None)]}, "None as"),
        ("a.mrk.json", {"markups": [node(controlPoints=[])]}, "no points"),
        ("a.mrk.json", "{", "not valid JSON"),
        ("a.fcsv", fcsv("LPS", "2"), "states the frame '2'"),
        ("a.fcsv", fcsv("LPS", "LPS") + "3,1,2\n", "line 6 has 3 fields, expected at least 12"),
        ("a.fcsv", "# CoordinateSystem = LPS\n", "no points"),
        ("a.csv", "", "is empty"),
        ("a.csv", "# frame: LPS\nlabel,x,y,z\n", "no points"),
        ("a.csv", "# frame: LPS\nname,x,y,z\na,1,2,3\n", 'no column "label"'),
        ("a.csv", "# frame: LPS\nlabel,x,y\na,1,2\n", 'no column "z"'),
        ("a.csv", "# frame: LPS\nlabel,x,y,z,x\na,1,2,3,4\n", "a column twice"),
        ("a.csv", "# frame: LPS\nlabel,x,y,z\na,1,2\n", "line 3 has 3 fields"),
        ("a.csv", "# frame: LPS\nlabel,x,y,z\n,1,2,3\n", "landmark 1 has the label ''"),
        ("a.csv", csv_table("LPS", "# frame: LPS", "RAS"), "the frames ['LPS', 'RAS']"),
        ("a.csv", csv_table("LPS", "# frame: world"), "states the frame 'world'"),
        ("a.csv", "label,x,y,z,frame\na,1,2,3,LPS\nb,1,2,3,\n", "the frames ['', 'LPS']"),
        ("a.csv", "label,x,y,z\n" + "a" * 200_000, "line 2 cannot be read"),
        ("a.json", [1, 2], "holds [1, 2]"),
        ("a.json", {"frame": "LPS"}, "no points"),
        ("a.json", {"frame": "LPS", "a": {"x": 1}}, "landmark \"a\" has the position {'x': 1}"),
        ("a.json", '{"frame": "LPS", "a": [1, 2, 3], "a": [4, 5, 6]}', 'key "a" stands twice'),
        ("a.txt", "", 'suffix ".txt"'),
    ],
)
def test_bad_files_are_refused_with_what_was_found(
    tmp_path: Path, name: str, content: Any, found: str
) -> None:
    assert found in refused(write(tmp_path / name, content))


@pytest.mark.parametrize("name", ["a.mrk.json", "a.fcsv", "a.csv", "a.json"])
def test_a_missing_file_is_refused(tmp_path: Path, name: str) -> None:
    assert "no such file" in refused(tmp_path / name)


@pytest.mark.parametrize("name", ["a.mrk.json", "a.fcsv", "a.csv", "a.json"])
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x89PNG\xff\xfe")
    assert "UTF-8" in refused(tmp_path / name)


@pytest.mark.parametrize(
    "position", [[1, 2], [1, 2, 3, 4], ["x", 2, 3], [None, 2, 3], [True, 2, 3], "1 2 3", None, []]
)
def test_positions_that_are_no_three_numbers_are_refused(tmp_path: Path, position: Any) -> None:
    point = {"label": "b", "position": position}
    points = [{"label": "a", "position": [1, 2, 3]}, point]
    path = write(tmp_path / "a.mrk.json", {"markups": [node(controlPoints=points)]})
    assert 'control point 2 ("b") has the position' in refused(path)
    if position is not None:
        path = write(tmp_path / "a.json", {"frame": "LPS", "b": position})
        assert 'landmark "b" has the position' in refused(path)


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "", "1e999", "1,5"])
def test_tables_with_positions_that_are_not_finite_are_refused(tmp_path: Path, number: str) -> None:
    path = write(tmp_path / "a.csv", f'# frame: LPS\nlabel,x,y,z\na,1,2,3\nb,1,"{number}",3\n')
    message = refused(path)
    assert 'line 4 ("b") has the position' in message
    assert repr(number) in message
    path = write(
        tmp_path / "a.fcsv",
        f'# CoordinateSystem = LPS\n0,1,"{number}",3,0,0,0,1,1,1,0,b,,\n',
    )
    assert 'line 2 ("b") has the position' in refused(path)


def test_repeated_labels_are_refused_in_every_format(tmp_path: Path) -> None:
    points = [{"label": "a", "position": [1, 2, 3]}, {"label": "a ", "position": [4, 5, 6]}]
    row = ",1,2,3,0,0,0,1,1,1,0,a,,\n"
    for path in (
        write(tmp_path / "a.mrk.json", {"markups": [node(controlPoints=points)]}),
        write(tmp_path / "a.fcsv", f"# CoordinateSystem = LPS\n0{row}1{row}"),
        write(tmp_path / "a.csv", "# frame: LPS\nlabel,x,y,z\na,1,2,3\na,4,5,6\n"),
        write(tmp_path / "a.json", {"frame": "LPS", "a": [1, 2, 3], " a": [4, 5, 6]}),
    ):
        assert '"a"' in refused(path)


COLUMNS = "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"


@pytest.mark.parametrize("columns", ["", COLUMNS, f"{COLUMNS},status", f"{COLUMNS},status,auto"])
@pytest.mark.parametrize("status", ["0", "3", "undefined", "missing"])
def test_points_that_a_fcsv_calls_undefined_are_missing(
    tmp_path: Path, columns: str, status: str
) -> None:
    rows = f"1,1,2,3,0,0,0,1,1,1,0,a,,,2,0\n2,0,0,0,0,0,0,1,1,1,0,b,,,{status},0\n"
    rows += "3,0,0,0,0,0,0,1,1,1,0,c,,\n4,,,,0,0,0,1,1,1,0,d,,,2,0\n"
    path = write(tmp_path / "a.fcsv", f"# CoordinateSystem = RAS\n{columns}\n{rows}")
    landmarks = read_landmarks(path)
    assert landmarks.missing.tolist() == [False, True, False, True]
    assert landmarks.positions[::2].tolist() == [[-1, -2, 3], [0, 0, 0]]


@pytest.mark.parametrize("status", ["1", "4", "here"])
def test_other_states_of_a_point_in_a_fcsv_are_refused(tmp_path: Path, status: str) -> None:
    text = f"# CoordinateSystem = LPS\n{COLUMNS}\n1,1,2,3,0,0,0,1,1,1,0,a,,,{status},0\n"
    message = refused(write(tmp_path / "a.fcsv", text))
    assert f"line 3 (\"a\") has the positionStatus '{status}'" in message


@pytest.mark.parametrize(("axes", "sign"), [("l,p,s", 1), ("r,a,s", -1), ("R,A,S", -1)])
def test_a_table_of_control_points_states_its_frame_in_its_columns(
    tmp_path: Path, axes: str, sign: int
) -> None:
    head = f"label,{axes},defined,selected,visible,locked,description\n"
    text = head + 'apex,1,2,3,1,1,1,0,\nwindow,0,0,0,0,1,1,0,"a, b"\nbase,0,0,0,1,1,1,0,\n'
    path = write(tmp_path / "a.csv", text)
    landmarks = read_landmarks(path)
    assert landmarks.labels == ("apex", "window", "base")
    assert landmarks.missing.tolist() == [False, True, False]
    assert landmarks.positions[::2].tolist() == [[sign * 1, sign * 2, 3], [0, 0, 0]]
    given, other = ("LPS", "RAS")[::sign]
    assert read_landmarks(path, given).labels == landmarks.labels  # type: ignore[arg-type]
    assert f"states the frame {given}, but {other} was said" in refused(path, other)
    assert "the frames ['LPS', 'RAS']" in refused(write(path, f"# frame: {other}\n{text}"))


@pytest.mark.parametrize(
    ("axes", "found"), [("l,a,s", 'no column "x"'), ("x,y,z,l,p,s", "a column twice")]
)
def test_columns_of_no_frame_and_of_two_are_refused(tmp_path: Path, axes: str, found: str) -> None:
    path = write(tmp_path / "a.csv", f"label,{axes}\na,1,2,3,4,5,6\n")
    assert found in refused(path, "LPS")


def test_a_table_with_words_for_defined(tmp_path: Path) -> None:
    text = "label,l,p,s,Defined\na,1,2,3,True\nb,0,0,0,False\nc,1,2,3,\n"
    path = write(tmp_path / "a.csv", text)
    assert read_landmarks(path).missing.tolist() == [False, True, False]
    assert "positionStatus 'maybe'" in refused(write(path, text.replace("False", "maybe")))


def test_names_of_columns_and_frames_may_have_capitals(tmp_path: Path) -> None:
    text = csv_table("LPS", column="LPS").replace("label,x,y,z,frame", "Label,X,Y,Z,Frame")
    assert_lps(read_landmarks(write(tmp_path / "a.csv", text)))
    mixed = text.replace(",LPS", ",lps", 1)
    assert_lps(read_landmarks(write(tmp_path / "a.csv", f"# frame: LPS\n{mixed}")))


@pytest.mark.parametrize(("separator", "named"), [(";", "semicolons"), ("\t", "tabs")])
@pytest.mark.parametrize("first", ["", "# frame: LPS\n", "# frame: LPS;;;;\n", "sep={}\n"])
def test_a_table_that_is_separated_otherwise_is_refused(
    tmp_path: Path, separator: str, named: str, first: str
) -> None:
    rows = [["label", "x", "y", "z", "frame"], ["apex", "1,5", "2,5", "3,5", "LPS"]]
    lines = [separator.join(row) for row in rows]
    path = write(tmp_path / "a.csv", first.format(separator) + "\n".join(lines))
    assert refused(path).endswith(f": is separated by {named}, expected commas")


@pytest.mark.parametrize("cells", [",,", "nan,nan,nan", " , ,", "NaN,,nan"])
def test_points_without_numbers_in_a_table_are_missing(tmp_path: Path, cells: str) -> None:
    path = write(tmp_path / "a.csv", f"# frame: RAS\nlabel,x,y,z\na,1,2,3\nb,{cells}\n")
    assert read_landmarks(path).missing.tolist() == [False, True]
    two = cells.rpartition(",")[0]
    path = write(tmp_path / "a.csv", f"# frame: pixels\nlabel,x,y\na,1,2\nb,{two}\n")
    assert read_landmarks(path).missing.tolist() == [False, True]


@pytest.mark.parametrize("cells", ["1,,", ",2,3", "nan,2,nan", "none,none,none", "-,-,-"])
def test_points_with_some_numbers_are_refused(tmp_path: Path, cells: str) -> None:
    path = write(tmp_path / "a.csv", f"# frame: RAS\nlabel,x,y,z\na,1,2,3\nb,{cells}\n")
    assert 'line 4 ("b") has the position' in refused(path)


@pytest.mark.parametrize("value", [None, [None] * 3])
def test_a_null_in_plain_json_is_a_missing_point(tmp_path: Path, value: Any) -> None:
    path = write(tmp_path / "a.json", {"frame": "LPS", "a": [1, 2, 3], "b": value})
    assert read_landmarks(path).missing.tolist() == [False, True]


@pytest.mark.parametrize("status", ["undefined", "missing"])
def test_undefined_points_are_missing_landmarks(tmp_path: Path, status: str) -> None:
    points = [
        {"label": "a", "position": [1, 2, 3], "positionStatus": "defined"},
        {"label": "b", "position": [0, 0, 0], "positionStatus": status},
        {"label": "c", "positionStatus": status},
    ]
    path = write(tmp_path / "a.mrk.json", {"markups": [node("RAS", controlPoints=points)]})
    landmarks = read_landmarks(path)
    assert landmarks.missing.tolist() == [False, True, True]
    assert landmarks.positions[0].tolist() == [-1, -2, 3]


def test_a_preview_position_is_refused(tmp_path: Path) -> None:
    points = [{"label": "a", "position": [1, 2, 3], "positionStatus": "preview"}]
    path = write(tmp_path / "a.mrk.json", {"markups": [node(controlPoints=points)]})
    assert "positionStatus 'preview'" in refused(path)


def test_the_first_of_several_lists_is_read(tmp_path: Path) -> None:
    other = node(controlPoints=[{"label": "z", "position": [0, 0, 0]}])
    path = write(tmp_path / "a.mrk.json", {"markups": [node("RAS"), other]})
    assert_lps(read_landmarks(path))
    lists = read_point_lists(path)
    assert [one.name for one in lists] == ["1", "2"]
    assert [one.landmarks.labels for one in lists] == [tuple(LPS), ("z",)]
    assert lists[0].radius is None


def point_lists() -> list[PointList]:
    landmarks = Landmarks(
        ("apex", "window", "centre"),
        np.array([[1.23456789, -2.00001, 3e2], [np.nan] * 3, [0.1, 0.2, -0.3]]),
    )
    radius = np.array([0.98765432, np.nan, 0.0])
    notes = ("", "outside the scan", "close to the edge")
    return [
        PointList("final", landmarks, radius, notes),
        PointList("rigid", Landmarks(("apex",), np.ones((1, 3))), None),
    ]


def test_written_lists_come_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.mrk.json"
    write_markups(path, point_lists())
    final, rigid = read_point_lists(path)
    assert (final.name, rigid.name) == ("final", "rigid")
    assert final.landmarks.labels == ("apex", "window", "centre")
    expected = [[1.2346, -2.0, 300], [np.nan] * 3, [0.1, 0.2, -0.3]]
    np.testing.assert_array_equal(final.landmarks.positions, expected)
    np.testing.assert_array_equal(final.radius, [0.9877, np.nan, 0.0])  # type: ignore[arg-type]
    assert final.notes == ("", "outside the scan", "close to the edge")
    assert rigid.radius is None
    assert rigid.notes == ("",)
    np.testing.assert_array_equal(read_landmarks(path).positions, expected)


def test_a_written_file_is_what_slicer_reads(tmp_path: Path) -> None:
    path = tmp_path / "a.mrk.json"
    write_markups(path, point_lists())
    data = json.loads(path.read_text())
    assert data["@schema"].endswith("markups-schema-v1.0.3.json#")
    final = data["markups"][0]
    assert (final["type"], final["name"]) == ("Fiducial", "final")
    assert (final["coordinateSystem"], final["coordinateUnits"]) == ("LPS", "mm")
    apex, window, centre = final["controlPoints"]
    assert apex["position"] == [1.2346, -2.0, 300.0]
    assert apex["positionStatus"] == "defined"
    assert apex["radius_mm"] == 0.9877
    assert apex["description"] == "true place within 0.9877 mm (90 %)"
    assert "position" not in window
    assert "radius_mm" not in window
    assert window["positionStatus"] == "undefined"
    assert window["description"] == "outside the scan"
    assert centre["description"] == "close to the edge; true place within 0.0000 mm (90 %)"
    assert "radius_mm" not in data["markups"][1]["controlPoints"][0]


def test_slicer_shows_the_first_list_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.mrk.json"
    region = PointList("region", Landmarks(("apex",), np.zeros((1, 3))), None)
    write_markups(path, [*point_lists(), region])
    nodes = json.loads(path.read_text(encoding="utf-8"))["markups"]
    assert [(node["name"], node["display"]["visibility"]) for node in nodes] == [
        ("final", True),
        ("rigid", False),
        ("region", False),
    ]


def test_a_scan_s_name_stands_before_those_of_its_lists(tmp_path: Path) -> None:
    path = tmp_path / "a.mrk.json"
    write_markups(path, point_lists(), scan="p-001")
    nodes = json.loads(path.read_text(encoding="utf-8"))["markups"]
    assert [node["name"] for node in nodes] == ["p-001 final", "p-001 rigid"]
    assert [one.name for one in read_point_lists(path, "p-001")] == ["final", "rigid"]
    assert [one.name for one in read_point_lists(path)] == ["p-001 final", "p-001 rigid"]


def test_a_method_without_steps_leaves_an_empty_file(tmp_path: Path) -> None:
    write_steps(tmp_path / "a.steps.mrk.json", [], scan="a")
    assert (tmp_path / "a.steps.mrk.json").read_bytes() == b""


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    write_markups(tmp_path / "a.mrk.json", point_lists())
    write_markups(tmp_path / "b.mrk.json", point_lists())
    assert (tmp_path / "a.mrk.json").read_bytes() == (tmp_path / "b.mrk.json").read_bytes()


def test_no_coordinate_is_written_as_minus_zero(tmp_path: Path) -> None:
    landmarks = Landmarks(("a",), np.array([[-0.00001, -0.0, 0.0]]))
    write_markups(tmp_path / "a.mrk.json", [PointList("final", landmarks, None)])
    assert "-0.0" not in (tmp_path / "a.mrk.json").read_text()


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=8).filter(
            lambda text: text == text.strip()
        ),
        st.tuples(*[st.floats(-1e4, 1e4)] * 3),
        min_size=1,
        max_size=6,
    )
)
def test_any_landmarks_come_back_within_the_rounding(
    tmp_path_factory: pytest.TempPathFactory, points: dict[str, tuple[float, ...]]
) -> None:
    path = tmp_path_factory.mktemp("markups") / "a.mrk.json"
    landmarks = Landmarks(tuple(points), np.array(list(points.values())))
    write_markups(path, [PointList("final", landmarks, None)])
    found = read_landmarks(path)
    assert found.labels == landmarks.labels
    np.testing.assert_allclose(found.positions, landmarks.positions, rtol=0, atol=0.5001e-4)


@pytest.mark.parametrize(
    ("unit", "key"), [("mm", "radius_mm"), ("px", "radius_px"), ("%", "radius_percent")]
)
def test_a_radius_comes_back_in_whichever_unit(tmp_path: Path, unit: Any, key: str) -> None:
    path = tmp_path / "a.mrk.json"
    write_markups(path, point_lists(), unit)
    point = json.loads(path.read_text())["markups"][0]["controlPoints"][0]
    assert point[key] == 0.9877
    assert point["description"] == f"true place within 0.9877 {unit} (90 %)"
    final, _ = read_point_lists(path)
    np.testing.assert_array_equal(final.radius, [0.9877, np.nan, 0.0])  # type: ignore[arg-type]
    assert final.notes == point_lists()[0].notes


def test_lists_need_different_names(tmp_path: Path) -> None:
    final, rigid = point_lists()
    for lists in ([], [final, PointList("final", rigid.landmarks, None)]):
        with pytest.raises(InputError, match="all named differently"):
            write_markups(tmp_path / "a.mrk.json", lists)
    assert not (tmp_path / "a.mrk.json").exists()


@pytest.mark.parametrize("value", ["high", True, [1]])
def test_a_confidence_that_is_no_number_is_refused(tmp_path: Path, value: Any) -> None:
    points = [{"label": "a", "position": [1, 2, 3], "radius_mm": value}]
    path = write(tmp_path / "a.mrk.json", {"markups": [node(controlPoints=points)]})
    with pytest.raises(InputError, match="radius_mm"):
        read_point_lists(path)


def test_a_point_list_needs_one_confidence_and_note_per_landmark() -> None:
    landmarks = Landmarks(("a", "b"), np.zeros((2, 3)))
    with pytest.raises(InputError, match=r'"final" has radii of the shape \(1,\)'):
        PointList("final", landmarks, np.zeros(1))
    with pytest.raises(InputError, match="1 notes, expected 2"):
        PointList("final", landmarks, None, ("x",))
    with pytest.raises(InputError, match="no name"):
        PointList("", landmarks, None)


# Points of pictures

PIXELS = Landmarks(("sella", "nasion", "b, c"), np.array([[10.25, 4, 0], [0, -0.5, 0], [7, 8, 0]]))
FIRST_PIXEL = "# frame: pixels, the centre of the first pixel at (0, 0)\n"


def assert_pixels(found: Landmarks, expected: Landmarks = PIXELS) -> None:
    assert found.labels == expected.labels
    np.testing.assert_array_equal(found.positions, expected.positions)


def test_points_in_pixels_come_back(tmp_path: Path) -> None:
    path = tmp_path / "new/a.csv"
    write_points_csv(path, PIXELS)
    assert path.read_text().startswith(f"{FIRST_PIXEL}label,x,y\nsella,10.2500,4.0000\n")
    for frame in (None, "pixels"):
        assert_pixels(read_landmarks(path, frame))  # type: ignore[arg-type]
    assert "states the frame pixels, but LPS was said" in refused(path, "LPS")


def test_a_table_holds_the_points_of_many_images(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    other = Landmarks(("sella", "nasion"), np.array([[1, 2, 0], [np.nan] * 3]))
    write_points_csv(path, {"001.png": PIXELS, "2": other})
    assert path.read_text().splitlines()[1] == "image,label,x,y"
    assert_pixels(read_landmarks(path, None, "001.png"))
    # The missing landmark has no row.
    assert_pixels(read_landmarks(path, "pixels", "2.png"), other.select(["sella"]))
    assert refused(path).endswith("has rows of the images ['001.png', '2'], expected those of one")
    assert refused(path, None, "3.png").endswith('expected those of "3.png"')


def test_a_table_of_one_image_needs_no_name(tmp_path: Path) -> None:
    text = f"{FIRST_PIXEL}image,label,x,y\n001,sella,3.5,4\n"
    found = read_landmarks(write(tmp_path / "a.csv", text))
    assert found.positions.tolist() == [[3.5, 4, 0]]


@pytest.mark.parametrize(
    "text",
    [
        "# frame: pixels\nlabel,x,y\nsella,10.25,4\n",
        "# Frame = PIXELS,,\r\nlabel,y,x\r\nsella,4,10.25\r\n",
        "label,x,y,frame\nsella,10.25,4,pixels\n",
    ],
)
def test_a_table_says_in_several_ways_that_it_is_in_pixels(tmp_path: Path, text: str) -> None:
    assert_pixels(read_landmarks(write(tmp_path / "a.csv", text)), PIXELS.select(["sella"]))


def test_plain_json_in_pixels_holds_x_and_y(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", {"frame": "pixels", "sella": [10.25, 4]})
    assert_pixels(read_landmarks(path), PIXELS.select(["sella"]))
    path = write(tmp_path / "a.json", {"frame": "pixels", "sella": [10.25, 4, 0]})
    assert "position [10.25, 4, 0], expected two finite numbers" in refused(path)


@pytest.mark.parametrize(("frame", "sign"), [("LPS", 1), ("RAS", -1), (None, 1)])
def test_markups_on_a_picture_are_those_of_its_volume(
    tmp_path: Path, frame: str | None, sign: int
) -> None:
    points = [{"label": "sella", "position": [sign * 10.25, sign * 4.0, 0.0]}]
    content = {"markups": [node(frame, controlPoints=points)]}
    path = write(tmp_path / "a.mrk.json", content)
    assert_pixels(read_landmarks(path, "pixels"), PIXELS.select(["sella"]))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("label,x,y\na,1,2\n", "does not state its frame, expected LPS, RAS or pixels"),
        (f"{FIRST_PIXEL}label,x,y,z\na,1,2,3\n", "has a column z"),
        (f"{FIRST_PIXEL}label,x\na,1\n", 'no column "y"'),
        (f"{FIRST_PIXEL}label,x,y\na,1,\n", "['1', ''], expected two finite numbers"),
        (f"{FIRST_PIXEL}label,x,y\n", "no points"),
        (FIRST_PIXEL.replace("(0, 0)", "(1, 1)") + "label,x,y\na,1,2\n", "pixel at (1, 1)"),
        ("# frame: LPS, the head first\nlabel,x,y,z\na,1,2,3\n", 'says "the head first"'),
        (f"{FIRST_PIXEL}image,label,x,y\n1,a,1,2\n1,a,3,4\n", '"a" stands more than once'),
    ],
)
def test_bad_tables_of_points_in_pixels_are_refused(tmp_path: Path, text: str, found: str) -> None:
    assert found in refused(write(tmp_path / "a.csv", text))
