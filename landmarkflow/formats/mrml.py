"""Scenes of 3D Slicer (.mrml): which files are opened together, and how they are shown.

A scene names files relative to its own folder. 3D Slicer keeps positions in RAS mm, and applies a
transform to what is put under it: points go "to parent". ITK's files map LPS points the other way,
from the fixed image's space, here the template's, to the moving one's, here the scan's.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmarkflow.core.errors import InputError
from landmarkflow.core.files import replacing, write_text
from landmarkflow.core.points import DECIMALS, PointList
from landmarkflow.formats.scan_files import NRRD
from landmarkflow.formats.slicer import described
from landmarkflow.formats.written import read_written
from landmarkflow.images.operations import array_of

# Of segments, by their order: colours that everybody can tell apart (Okabe and Ito).
COLOURS = (
    (0.902, 0.624, 0.0),
    (0.337, 0.706, 0.914),
    (0.0, 0.620, 0.451),
    (0.941, 0.894, 0.259),
    (0.0, 0.447, 0.698),
    (0.835, 0.369, 0.0),
    (0.8, 0.475, 0.655),
)
# LPS to RAS and back: x and y change their signs.
TURN = np.diag([-1.0, -1.0, 1.0, 1.0])
# Rigid and affine transforms of ITK, which a matrix says whole.
LINEAR = (
    *("Euler3DTransform", "VersorTransform", "VersorRigid3DTransform", "Similarity3DTransform"),
    *("AffineTransform", "TranslationTransform", "ScaleTransform", "IdentityTransform"),
)
SLICES = ("Red", "Yellow", "Green")

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Marked:
    """Points of a scene: their name, their file, .mrk.json or .fcsv, and colour."""

    name: str
    path: Path
    colour: tuple[float, float, float]


@dataclass(frozen=True)
class Scene:
    """What a scene shows.

    Attributes:
        scan: the scan's name.
        image: its file.
        colours: whether it is a picture in colours.
        marked: lists of points.
        segmentation: file of its segments, a .seg.nrrd; None for none.
        transforms: ITK's files from the template's space to the scan's, by name.
    """

    scan: str
    image: Path
    colours: bool = False
    marked: Sequence[Marked] = ()
    segmentation: Path | None = None
    transforms: Mapping[str, Path] = field(default_factory=dict)


def to_parent(transform: sitk.Transform) -> Matrix | None:
    """The matrix by which 3D Slicer lays a scan on its template; None of what is not linear.

    Args:
        transform: from the template's space to the scan's, LPS mm.

    Returns:
        (4, 4), of RAS points of the scan: they become RAS points of the template.
    """
    parts = [transform]
    if transform.GetName() == "CompositeTransform":
        composite = sitk.CompositeTransform(transform)
        parts = [composite.GetNthTransform(n) for n in range(composite.GetNumberOfTransforms())]
    if not all(part.Downcast().GetName() in LINEAR for part in parts):
        return None
    ends = [transform.TransformPoint(point) for point in (np.zeros(3), *np.eye(3))]
    origin, axes = np.array(ends[0]), np.array(ends[1:])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = (axes - origin).T, origin
    found: Matrix = TURN @ np.linalg.inv(matrix) @ TURN
    return found


def write_scene(path: Path, scene: Scene) -> None:
    """Write a scene, replacing `path` as a whole; its files are named relative to its folder.

    Raises:
        InputError: a transform cannot be read.
    """
    root = ElementTree.Element("MRML", {"version": "Slicer4.10.0", "userTags": ""})
    _add_image(root, path.parent, scene)
    for number, marked in enumerate(scene.marked, start=1):
        _add_points(root, path.parent, number, marked)
    if scene.segmentation is not None:
        _add_segmentation(root, path.parent, scene.scan, scene.segmentation)
    for number, (name, file) in enumerate(scene.transforms.items(), start=1):
        _add_transform(root, path.parent, number, f"{scene.scan} {name}", file)
    ElementTree.indent(root, " ")
    text = ElementTree.tostring(root, encoding="unicode")
    write_text(path, f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n')


def _relative(folder: Path, file: Path) -> str:
    return Path(os.path.relpath(file, folder)).as_posix()


def _add(root: ElementTree.Element, tag: str, identity: str, **attributes: str) -> None:
    ElementTree.SubElement(root, tag, {"id": identity, **attributes})


def _add_image(root: ElementTree.Element, folder: Path, scene: Scene) -> None:
    kind = "VectorVolume" if scene.colours else "ScalarVolume"
    image, display = f"vtkMRML{kind}Node1", f"vtkMRML{kind}DisplayNode1"
    storage = "vtkMRMLVolumeArchetypeStorageNode1"
    # Files beside it, whose names differ in a number, are no further slices.
    file = {"fileName": _relative(folder, scene.image), "singleFile": "1"}
    _add(root, "VolumeArchetypeStorage", storage, name=f"{scene.scan} file", **file)
    grey = {"references": "color:vtkMRMLColorTableNodeGrey;", "autoWindowLevel": "1"}
    tags = {"ScalarVolume": "VolumeDisplay", "VectorVolume": "VectorVolumeDisplay"}
    _add(root, tags[kind], display, name=f"{scene.scan} display", **grey)
    both = f"display:{display};storage:{storage};"
    tag = "VectorVolume" if scene.colours else "Volume"
    _add(root, tag, image, name=scene.scan, references=both)
    for name in SLICES:
        shown = {"references": f"backgroundVolume:{image};", "layoutName": name}
        _add(root, "SliceComposite", f"vtkMRMLSliceCompositeNode{name}", singletonTag=name, **shown)


def _add_points(root: ElementTree.Element, folder: Path, number: int, marked: Marked) -> None:
    kind = "MarkupsFiducialStorage" if marked.path.suffix == ".fcsv" else "MarkupsJsonStorage"
    storage, display = f"vtkMRML{kind}Node{number}", f"vtkMRMLMarkupsDisplayNode{number}"
    file = _relative(folder, marked.path)
    _add(root, kind, storage, name=f"{marked.name} file", fileName=file)
    colour = " ".join(f"{part:g}" for part in marked.colour)
    shown = {"color": colour, "selectedColor": colour, "visibility": "true"}
    _add(root, "MarkupsDisplay", display, name=f"{marked.name} display", **shown)
    both = f"display:{display};storage:{storage};"
    points = f"vtkMRMLMarkupsFiducialNode{number}"
    _add(root, "MarkupsFiducial", points, name=marked.name, references=both)


def _add_segmentation(root: ElementTree.Element, folder: Path, scan: str, file: Path) -> None:
    storage, display = "vtkMRMLSegmentationStorageNode1", "vtkMRMLSegmentationDisplayNode1"
    name = f"{scan} segmentation"
    _add(
        root, "SegmentationStorage", storage, name=f"{name} file", fileName=_relative(folder, file)
    )
    _add(root, "SegmentationDisplay", display, name=f"{name} display", visibility="true")
    both = f"display:{display};storage:{storage};"
    _add(root, "Segmentation", "vtkMRMLSegmentationNode1", name=name, references=both)


def _add_transform(
    root: ElementTree.Element, folder: Path, number: int, name: str, file: Path
) -> None:
    """A linear transform as the matrix that it is, any other by its file."""
    try:
        transform = sitk.ReadTransform(str(file))
    except RuntimeError:
        raise InputError(
            f"{file}: cannot be read as a transform, expected one in ITK's format"
        ) from None
    matrix = to_parent(transform)
    if matrix is not None:
        values = " ".join(f"{value:.17g}" for value in matrix.ravel())
        linear = f"vtkMRMLLinearTransformNode{number}"
        _add(root, "LinearTransform", linear, name=name, matrixTransformToParent=values)
        return
    storage = f"vtkMRMLTransformStorageNode{number}"
    _add(root, "TransformStorage", storage, name=f"{name} file", fileName=_relative(folder, file))
    refers = f"storage:{storage};"
    _add(root, "Transform", f"vtkMRMLTransformNode{number}", name=name, references=refers)


@dataclass(frozen=True)
class Segment:
    """How a label is called and shown: red, green and blue from 0 to 1."""

    name: str
    colour: tuple[float, ...]


def segments_of(path: Path) -> dict[int, Segment]:
    """Names and colours of labels, as 3D Slicer saved them with a segmentation (.seg.nrrd).

    Returns:
        By label; nothing of a file that says none, or has another format.
    """
    if not path.name.lower().endswith(NRRD):
        return {}
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return {}
    said = {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}
    found = {}
    for place, value in enumerate(_values(said, "LabelValue")):
        name = said.get(f"Segment{place}_Name", "")
        colour = tuple(map(float, said.get(f"Segment{place}_Color", "").split()))
        if name and len(colour) == len(COLOURS[0]) and value.isdecimal():
            found[int(value)] = Segment(name, colour)
    return found


def _values(said: Mapping[str, str], key: str) -> list[str]:
    """One entry of each segment, in their order."""
    found: list[str] = []
    while (value := said.get(f"Segment{len(found)}_{key}")) is not None:
        found.append(value)
    return found


def write_segments(source: Path, path: Path, known: Mapping[int, Segment]) -> None:
    """Write a labelled volume as segments with names and colours, a .seg.nrrd.

    Args:
        source: the volume, as this package wrote it: 0 is background.
        path: the file, replaced as a whole.
        known: segments by label; another label is called by its number.
    """
    image = read_written(source)
    values = array_of(image)
    for place, value in enumerate(int(v) for v in np.unique(values) if v):
        own = Segment(f"label {value}", COLOURS[place % len(COLOURS)])
        segment = known.get(value, own)
        where = np.argwhere(values == value)[:, ::-1]
        ends = zip(where.min(axis=0), where.max(axis=0), strict=True)
        facts = {
            "ID": f"Segment_{value}",
            "Name": segment.name,
            "NameAutoGenerated": "0",
            "Color": " ".join(f"{part:g}" for part in segment.colour),
            "ColorAutoGenerated": "0",
            "Extent": " ".join(f"{first} {last}" for first, last in ends),
            "LabelValue": str(value),
            "Layer": "0",
            "Tags": "",
        }
        for key, text in facts.items():
            image.SetMetaData(f"Segment{place}_{key}", text)
    image.SetMetaData("Segmentation_MasterRepresentation", "Binary labelmap")
    image.SetMetaData("Segmentation_ContainedRepresentationNames", "Binary labelmap|")
    image.SetMetaData("Segmentation_ReferenceImageExtentOffset", "0 0 0")
    with replacing(path) as beside:
        sitk.WriteImage(image, str(beside), useCompression=True)


def write_fcsv(path: Path, points: PointList) -> None:
    """Write points as 3D Slicer 4 does, a table in RAS mm; one that is missing has no row.

    A radius stands in the description, as in a .mrk.json of this package.
    """
    lines = [
        "# Markups fiducial file version = 4.10",
        "# CoordinateSystem = 0",
        "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID",
    ]
    for row, label in enumerate(points.landmarks.labels):
        if not points.landmarks.missing[row]:
            x, y, z = np.round(points.landmarks.positions[row] * [-1, -1, 1], DECIMALS) + 0.0
            place = ",".join(f"{value:.{DECIMALS}f}" for value in (x, y, z))
            words = ",".join(_quoted(text) for text in (label, described(points, row)))
            lines.append(f"vtkMRMLMarkupsFiducialNode_{row},{place},0,0,0,1,1,1,0,{words},")
    write_text(path, "\n".join(lines) + "\n")


def _quoted(text: str) -> str:
    """A field of a table: one with a comma or a quotation mark stands in quotation marks."""
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"') else text
