"""Let matched scans vote on each other's landmarks.

The template's landmarks reach a scan directly, and again by way of every peer: template to peer,
peer to scan. Each way errs in its own manner; their mean errs by less.
"""

import functools
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmarkflow.core.errors import ScanFailure
from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import Record, read_record
from landmarkflow.core.votes import count_votes
from landmarkflow.engine.batch import Batch
from landmarkflow.engine.store import Task
from landmarkflow.formats.slicer import write_markups
from landmarkflow.formats.transforms import read_transform
from landmarkflow.formats.written import read_written
from landmarkflow.images.sampling import matrix_and_offset
from landmarkflow.methods.oneshot.deform import Deform, prepare_scan
from landmarkflow.methods.oneshot.landmarks import place_landmarks
from landmarkflow.methods.oneshot.settings import DeformSettings, VoteSettings
from landmarkflow.methods.oneshot.template import annotated_of, crop_and_mask


@dataclass(frozen=True)
class Peer:
    """A matched scan that stands for the template: its landmarks and what deforms a scan to it."""

    rigid: sitk.Transform
    landmarks: Landmarks
    deform: Deform


def way_between(to_peer: sitk.Transform, to_scan: sitk.Transform) -> sitk.AffineTransform:
    """The affine map from a peer to a scan, by way of the template.

    Args:
        to_peer: affine, takes template points to the peer's.
        to_scan: affine, takes template points to the scan's.
    """
    whole = sitk.CompositeTransform([to_scan, to_peer.GetInverse()])
    matrix, offset = matrix_and_offset(whole)
    way = sitk.AffineTransform(3)
    way.SetMatrix(matrix.ravel().tolist())
    way.SetTranslation(offset.tolist())
    return way


def run(batch: Batch) -> None:
    """Write every scan's points on which the ways agree, and how far the ways spread."""
    settings = batch.settings(VoteSettings)
    registration = batch.settings(DeformSettings, "deform")
    annotated = annotated_of(batch)
    peers = [
        p for p in batch.peers if read_record(batch.peer_path("deform_record", p)).status == "ok"
    ]
    mask = functools.cache(lambda: crop_and_mask(batch, registration.mask_margin_mm)[1])

    @functools.cache
    def peer_of(name: str) -> Peer:
        to_peer = read_transform(batch.peer_path("rigid", name))
        crop = read_written(batch.peer_path("crop", name))
        onto_peer = prepare_scan(crop, to_peer, mask(), registration, seed=batch.values["seed"])
        bspline = read_transform(batch.peer_path("bspline", name))
        return Peer(to_peer, place_landmarks(annotated, bspline), onto_peer)

    def compute(task: Task) -> Record:
        scan = read_written(task.inputs["crop"])
        rigid = read_transform(task.inputs["rigid"])
        direct = read_transform(task.inputs["bspline"])
        ways = {"direct": place_landmarks(annotated, direct).positions}
        for name in peers:
            if name != task.scan and len(ways) <= settings.peers:
                way = _by_way_of(peer_of(name), scan, rigid)
                if way is not None:
                    ways[name] = way
        votes = count_votes(list(ways.values()), settings.farthest_mm)
        voted = Landmarks(annotated.labels, votes.positions)
        write_markups(task.outputs["voted"], [PointList("voted", voted, None)])
        details = {
            "ways": list(ways),
            "spread_mm": votes.spread.round(4).tolist(),
            "counted": votes.counted.tolist(),
        }
        return Record(task.scan, "vote", details=details)

    batch.run(compute)


def _by_way_of(peer: Peer, scan: sitk.Image, rigid: sitk.Transform) -> NDArray[np.float64] | None:
    """The landmarks by way of a peer; None where the scan could not be registered to it."""
    try:
        whole = peer.deform(scan, way_between(peer.rigid, rigid), None)
    except ScanFailure:
        return None
    return place_landmarks(peer.landmarks, whole).positions
