"""A progress bar for terminals."""

import sys
import time

BAR = 28  # characters


class Bar:
    """A progress bar on standard error; silent where that is no terminal, but for the stages' names."""

    def __init__(self, words: str) -> None:
        self.words, self._said, self._since = words, "", time.monotonic()

    def __call__(self, fraction: float, message: str = "", seconds_left: float | None = None) -> None:
        """Draw the bar."""
        if not sys.stderr.isatty():
            if self.words != self._said:
                print(self.words, file=sys.stderr, flush=True)
                self._said = self.words
            return
        if seconds_left is None and fraction > 0.02:
            seconds_left = (time.monotonic() - self._since) * (1 - fraction) / fraction
        left = f" · {int(seconds_left // 60)}:{int(seconds_left % 60):02d} left" if seconds_left else ""
        filled = int(BAR * fraction)
        self.line(f"{self.words:<11} {'█' * filled}{'░' * (BAR - filled)} {fraction:4.0%} {message}{left}", end="")
        self._said = self.words

    def line(self, text: str, end: str = "\n") -> None:
        """Write over the bar."""
        print(f"\r\x1b[K{text}" if sys.stderr.isatty() else text, end=end, file=sys.stderr, flush=True)

    def end(self) -> None:
        """Leave the bar behind."""
        if sys.stderr.isatty() and self._said:
            print(file=sys.stderr)
