"""Locks that show whether a run's process is alive, and requests to stop. Waiting processes import it: few imports."""

from pathlib import Path

from filelock import FileLock, Timeout

STARTING_SECONDS = 20  # a spawned process that has not taken its lock after this time counts as lost


class Stopped(Exception):
    """Raised when the run was asked to stop."""


def run_lock(folder: Path) -> FileLock:
    """Return the lock that a run's process holds while it is alive. It is released even if the process is killed."""
    return FileLock(folder / "lock", thread_local=False)


def is_held(lock_file: Path) -> bool:
    """Return whether a process holds this lock."""
    if not lock_file.exists():
        return False
    try:
        with FileLock(lock_file, thread_local=False).acquire(blocking=False):
            return False
    except (Timeout, PermissionError):
        return True


def stop_requested(folder: Path) -> bool:
    """Return whether the run in this folder was asked to stop."""
    return (folder / "stop").exists()
