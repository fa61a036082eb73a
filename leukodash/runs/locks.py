"""Whether a run's process lives, and whether it was asked to stop. Light, since waiting processes import it."""

from pathlib import Path

from filelock import FileLock, Timeout

STARTING_SECONDS = 20  # that a spawned process has to take its lock and its place; then it counts as lost


class Stopped(Exception):
    """The run was asked to stop."""


def run_lock(folder: Path) -> FileLock:
    """Return the lock that a run's process holds as long as it lives. A killed process frees it at once."""
    return FileLock(folder / "lock", thread_local=False)


def is_held(lock_file: Path) -> bool:
    """Whether some process holds this lock."""
    if not lock_file.exists():
        return False
    try:
        with FileLock(lock_file, thread_local=False).acquire(blocking=False):
            return False
    except (Timeout, PermissionError):
        return True


def stop_requested(folder: Path) -> bool:
    """Whether someone asked the run in this folder to stop."""
    return (folder / "stop").exists()
