"""Locks that show whether a run's process is alive, and requests to stop. Waiting processes import it: few imports."""

import fcntl
import os
from pathlib import Path

from filelock import FileLock

STARTING_SECONDS = 20  # a spawned process that has not taken its lock after this time counts as lost


class Stopped(Exception):
    """Raised when the run was asked to stop."""


def run_lock(folder: Path) -> FileLock:
    """Return the lock that a run's process holds while it is alive. It is released even if the process is killed."""
    return FileLock(folder / "lock", thread_local=False)


def is_held(lock_file: Path) -> bool:
    """Return whether a process holds this lock, or may hold it: that of another user may be unreadable.

    Nothing is written: on a read-only file system the answer is right too.
    """
    try:
        probe = os.open(lock_file, os.O_RDONLY | os.O_NONBLOCK)
    except PermissionError:
        return True
    except OSError:  # there is no lock
        return False
    try:
        fcntl.flock(probe, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(probe)
    return False


def stop_requested(folder: Path) -> bool:
    """Return whether the run in this folder was asked to stop."""
    return (folder / "stop").exists()
