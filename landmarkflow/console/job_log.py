"""The log of a job, read while the job writes it."""

import re
from pathlib import Path

# As the command line of a stage writes a log: a date, a level and the text.
LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (DEBUG|INFO|WARNING|ERROR|CRITICAL) (.*)")
SERVED = re.compile(r"(\d+)/\d+ \S+: (?:known|computed)")
EPOCH = re.compile(
    r"(?:[\w, -]*?(?:, network (\d+) of (\d+))?: )?epoch (\d+) of (?:at most )?(\d+)(?::| \()"
)
# Of a log's end, as many lines are shown of a job that failed.
SHOWN = 8
LARGEST_END = 64_000


class JobLog:
    """Follows the log of one job: the scans that it has served, its epochs, its warnings."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.served = 0
        self.epoch: tuple[int, int] | None = None
        self._read = 0

    def follow(self) -> list[str]:
        """Read on from where the last look ended; returns the warnings that are new."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._read)
                text = file.read()
        except OSError:
            return []
        # A line that is being written is read when it is whole.
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        warnings = []
        for line in whole.decode("utf-8", errors="replace").splitlines():
            found = LINE.fullmatch(line)
            if found is None:
                continue
            level, said = found.groups()
            if served := SERVED.fullmatch(said):
                self.served = int(served[1])
            elif epoch := EPOCH.match(said):
                # Networks that learn one after another are counted on.
                network, networks = int(epoch[1] or 1), int(epoch[2] or 1)
                each = int(epoch[4])
                self.epoch = (network - 1) * each + int(epoch[3]), networks * each
            elif level == "WARNING":
                warnings.append(said)
        return warnings


def end_of(path: Path) -> list[str]:
    """The last lines of a job's log: its errors where it says some, without date and level."""
    try:
        text = path.read_bytes()[-LARGEST_END:].decode("utf-8", errors="replace")
    except OSError:
        return []
    lines, errors = [], []
    is_error = False
    for line in text.splitlines():
        found = LINE.fullmatch(line)
        if found:
            is_error = found[1] in ("ERROR", "CRITICAL")
        said = found[2] if found else line
        lines.append(said)
        if is_error:
            errors.append(said)
    return (errors or lines)[-SHOWN:]
