"""Lines on stderr: a progress line that is rewritten on a terminal, and few lines elsewhere."""

import shutil
import sys
from collections.abc import Callable
from typing import TextIO

# Seconds between two signs of life where lines stay: a line each at first, then a mark of some
# characters on the line that stands, of which a new one begins ever more seldom.
EVERY_S = 9.5
LINES_UNTIL_S = 200.0
MARKS = ((1200.0, 6), (float("inf"), 18))
# On a terminal one line is rewritten so often.
REWRITTEN_EVERY_S = 1.0


class Screen:
    """Where the console writes. Whoever calls it from several threads holds a lock."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.is_terminal = self.stream.isatty()
        self._open = False
        self._marks = 0
        self._last_s = 0.0

    def say(self, line: str, now_s: float = 0.0) -> None:
        """Write a line that stays."""
        self._end_line()
        self._write(f"{line}\n")
        self._last_s, self._marks = now_s, 0

    def show(self, line: Callable[[], str], mark: Callable[[], str], now_s: float) -> None:
        """Show how far a run is, where it is time to.

        Args:
            line: the progress line.
            mark: a few characters instead, which say how far it is by now.
            now_s: seconds since the run began.
        """
        if self.is_terminal:
            if now_s - self._last_s >= REWRITTEN_EVERY_S:
                width = max(shutil.get_terminal_size().columns - 1, 20)
                self._write(f"\r\x1b[K{line()[:width]}")
                self._open, self._last_s = True, now_s
            return
        if now_s - self._last_s < EVERY_S:
            return
        self._last_s = now_s
        most = next(count for until, count in MARKS if now_s < until)
        if now_s > LINES_UNTIL_S and self._open and self._marks < most:
            self._write(f" {mark()}")
            self._marks += 1
            return
        self._end_line()
        self._write(line() if now_s > LINES_UNTIL_S else f"{line()}\n")
        self._open, self._marks = now_s > LINES_UNTIL_S, 0

    def close(self) -> None:
        """End a line that is still open."""
        self._end_line()

    def _end_line(self) -> None:
        if self._open:
            self._write("\r\x1b[K" if self.is_terminal else "\n")
            self._open = False

    def _write(self, text: str) -> None:
        # A terminal that is closed, or a reader that has gone, ends no run.
        try:
            self.stream.write(text)
            self.stream.flush()
        except (OSError, ValueError):
            self._open = False
