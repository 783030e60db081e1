"""Pictures as parts of the page itself, which can be mailed, within a number of bytes; or links."""

import base64
import io
import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from landmarkflow.core.errors import InputError

# Of all pictures of a page. In base64 they take a third more; with the map of 200 scans and 45
# landmarks the page stays below 12 MB.
PAGE_BYTES = 6_600_000
# More shows nothing more in the page's width; less cannot be read.
MOST_BYTES, FEWEST_BYTES = 120_000, 24_000
WIDTH = 940
QUALITY = 70
# A picture to look at may take so many times the share of one that nobody doubts.
LOOKED_AT = 2
# Each further attempt is smaller by the area that the last one had too much.
ATTEMPTS = 4


@dataclass(frozen=True)
class Embedded:
    """A picture as the page shows it.

    Attributes:
        source: what its element names: data, or empty where only the file is linked.
        width: pixels of the file.
        height: pixels of the file.
    """

    source: str
    width: int
    height: int


def link_to(path: Path, base: Path) -> str:
    """A file or folder as a page in the folder `base` links to it."""
    return quote(Path(os.path.relpath(path, base)).as_posix())


@dataclass
class Budget:
    """The bytes that are left for a page's pictures, of which there are `count`."""

    count: int
    left: int = PAGE_BYTES
    each: int = field(init=False)

    def __post_init__(self) -> None:
        self.each = min(MOST_BYTES, max(FEWEST_BYTES, self.left // max(self.count, 1)))

    def embed(self, path: Path, *, look: bool = False) -> Embedded:
        """A picture as WebP, no larger than its share; as it is where nothing is left for it.

        Args:
            path: the picture; a WebP file that is small enough is taken as it is.
            look: whether it has a reason to be looked at, and so a larger share.

        Raises:
            InputError: the file is neither PNG nor WebP.
        """
        try:
            with Image.open(path, formats=("PNG", "WEBP")) as stored:
                width, height = stored.size
                most = min(MOST_BYTES, self.each * (LOOKED_AT if look else 1))
                if self.left < most:
                    return Embedded("", width, height)
                fits = stored.format == "WEBP" and path.stat().st_size <= most
                data = path.read_bytes() if fits else _smaller(stored.convert("RGB"), most)
        except OSError:
            said = "is neither a PNG nor a WebP file, expected a scan's picture"
            raise InputError(f"{path}: {said}") from None
        self.left -= len(data)
        encoded = base64.b64encode(data).decode("ascii")
        return Embedded(f"data:image/webp;base64,{encoded}", width, height)


def _smaller(picture: Image.Image, most: int) -> bytes:
    scale = min(1.0, WIDTH / picture.width)
    for _ in range(ATTEMPTS):
        size = [max(1, round(side * scale)) for side in picture.size]
        data = io.BytesIO()
        picture.resize((size[0], size[1]), Image.Resampling.LANCZOS).save(
            data, format="WEBP", quality=QUALITY, method=2
        )
        if len(data.getvalue()) <= most:
            break
        scale *= 0.95 * (most / len(data.getvalue())) ** 0.5
    return data.getvalue()
