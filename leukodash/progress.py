"""The callback by which long tasks report their progress."""

from collections.abc import Callable

Progress = Callable[[float, str], None]  # called with the fraction done, 0..1, and a text
