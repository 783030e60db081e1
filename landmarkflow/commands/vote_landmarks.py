"""Let a few scans of the study vote on the landmarks of a batch."""

import argparse
import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from landmarkflow.core.errors import ScanFailure
from landmarkflow.core.files import sha256
from landmarkflow.core.points import Landmarks, PointList
from landmarkflow.core.records import Record, read_record
from landmarkflow.engine.arguments import (
    add_batch,
    add_paths,
    add_settings,
    as_json,
    read_settings,
    run_stage,
)
from landmarkflow.engine.batch import Task
from landmarkflow.formats.markups import read_complete_landmarks, write_markups
from landmarkflow.formats.volumes import read_written
from landmarkflow.methods.oneshot import deform
from landmarkflow.methods.oneshot.consensus import count_votes, way_between
from landmarkflow.methods.oneshot.landmarks import place_landmarks
from landmarkflow.methods.oneshot.settings import ConsensusSettings, DeformSettings
from landmarkflow.methods.oneshot.template import add_template, crop_and_mask, shared_template

PEER_FILES = ("peers-centred", "peers-rigid", "peers-bspline", "peers-record")


@dataclass(frozen=True)
class Peer:
    """A matched scan that stands for the template: its landmarks and what deforms a scan to it."""

    rigid: sitk.Transform
    landmarks: Landmarks
    deform: deform.Deform


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_settings(parser)
    add_settings(parser, "deform-settings")
    parser.add_argument("--seed", required=True, type=int)
    add_template(parser)
    add_paths(parser, "template-landmarks")
    parser.add_argument("--peers", required=True, nargs="+", metavar="SCAN")
    for name in PEER_FILES:
        parser.add_argument(f"--{name}", required=True, nargs="+", type=Path, metavar="FILE")
    add_batch(parser, ("centred", "rigid", "bspline", "bspline_record"), ("voted", "record"))


def run(arguments: argparse.Namespace) -> None:
    """Write every scan's points on which the ways agree, and how far the ways spread."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    settings = read_settings(ConsensusSettings, arguments.settings)
    registration = read_settings(DeformSettings, arguments.deform_settings)
    annotated = read_complete_landmarks(arguments.template_landmarks)
    peers = _usable_peers(arguments)
    mask = functools.cache(lambda: crop_and_mask(arguments, registration.mask_margin_mm)[1])

    @functools.cache
    def peer_of(name: str) -> Peer:
        crop, rigid, bspline = peers[name]
        to_peer = sitk.ReadTransform(str(rigid))
        onto_peer = deform.prepare_scan(
            read_written(crop), to_peer, mask(), registration, seed=arguments.seed
        )
        there = place_landmarks(annotated, sitk.ReadTransform(str(bspline)))
        return Peer(to_peer, there, onto_peer)

    def compute(task: Task) -> Record:
        scan = read_written(task.inputs["centred"])
        rigid = sitk.ReadTransform(str(task.inputs["rigid"]))
        direct = sitk.ReadTransform(str(task.inputs["bspline"]))
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

    run_stage(
        arguments,
        "vote",
        __name__,
        compute,
        shared={
            "settings": as_json(settings),
            "deform": as_json(registration),
            "seed": arguments.seed,
            **shared_template(arguments),
            "annotated": arguments.template_landmarks,
            "peers": {name: [sha256(path) for path in files] for name, files in peers.items()},
        },
        after="bspline_record",
    )


def _usable_peers(arguments: argparse.Namespace) -> dict[str, tuple[Path, Path, Path]]:
    """Crop, rigid transform and B-spline of each peer that no stage doubts."""
    files = zip(
        arguments.peers_centred, arguments.peers_rigid, arguments.peers_bspline, strict=True
    )
    records = map(read_record, arguments.peers_record)
    return {
        name: paths
        for name, paths, record in zip(arguments.peers, files, records, strict=True)
        if record.status == "ok"
    }


def _by_way_of(peer: Peer, scan: sitk.Image, rigid: sitk.Transform) -> NDArray[np.float64] | None:
    """The landmarks by way of a peer; None where the scan could not be registered to it."""
    try:
        whole = peer.deform(scan, way_between(peer.rigid, rigid))
    except ScanFailure:
        return None
    return place_landmarks(peer.landmarks, whole).positions
