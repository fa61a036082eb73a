"""Waiting for other processes: until something is so, for as long as a busy machine may need."""

import time


def until(condition, seconds=900):
    """Wait until `condition()` is true. Trainers have a low priority, so other work can slow them down tenfold."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
