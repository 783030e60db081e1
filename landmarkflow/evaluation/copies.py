"""Scans that hold one and the same image, saved anew, which no comparison of files finds."""

from collections import defaultdict
from collections.abc import Mapping

from landmarkflow.core.records import Record
from landmarkflow.images.identity import Identity

# Where a method's record says which image it read.
IMAGE = "image"


def copies_among(records: Mapping[str, Record], sides: Mapping[str, str]) -> dict[str, str]:
    """Why scans are not measured: their image is that of another scan.

    Two sides of one image are two scans where both sides are stated.

    Args:
        records: of a run's scans, by id; one that does not say which image it read is passed over.
        sides: as stated, by id; empty where none is.

    Returns:
        The reason, by the scan's id.
    """
    alike: dict[str, list[tuple[str, Identity]]] = defaultdict(list)
    for name, record in records.items():
        if stated := record.details.get(IMAGE):
            identity = Identity.of_record(stated)
            alike[identity.voxels].append((name, identity))
    found = {}
    for group in alike.values():
        for name, identity in group:
            side = sides.get(name, "")
            others = [
                other
                for other, there in group
                if other != name
                and identity.is_same(there)
                and not (side and sides.get(other) and side != sides[other])
            ]
            if others:
                named = " and ".join(f"the scan {other}" for other in others)
                found[name] = (
                    f"scan {name}: holds the same image as {named}, saved anew, expected another "
                    "image, or another side of it that is stated for each"
                )
    return found
