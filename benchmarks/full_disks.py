"""Disks that are full, or cannot be written, while LeukoDash works: is all that was reported there, and does it go on?

Each fault is one of a small disk in memory (which root alone can mount). A kind of `interrupted_work` does some pieces;
then the disk is filled but for a random rest, mounted read-only, or its folders are closed to the user. The same work
must then say in a sentence why it cannot go on, or go on. When the cause is gone, everything that was reported is
checked, and the work goes on without anybody's help.
"""

import contextlib
import ctypes
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from benchmarks.harness import Options
from benchmarks.interrupted_work import small_config
from benchmarks.kills import start_work, take, wait
from leukodash.data.demo_cells import make_demo
from leukodash.jobs import launch as jobs

DISK_BYTES = 256 * 2**20
FAULTS, QUICK_FAULTS = 20, 4  # full disks, and as many that cannot be written
ORDER = ("training", "import", "export", "about", "features", "start", "cells", "deletion", "training", "archives")
LARGE = {"training": 45e6, "export": 12e6, "cells": 2e5}  # bytes that the work may need; the others need less than:
SMALL = 4e4
PIECES, SLOW_PIECES = 3, 1  # of work in each state of the disk; the large ones take seconds
DROP_CAPABILITY, OVERRIDE_PERMISSIONS, SEARCH_EVERYWHERE = 24, 1, 2  # linux/prctl.h, linux/capability.h


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a small disk at a folder while the block runs. Raises CalledProcessError where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=755", "none", folder]
    subprocess.run(command, check=True, capture_output=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextlib.contextmanager
def full(folder: Path, left: float) -> Iterator[None]:
    """Fill a disk but for some bytes."""
    filler = folder / "filler"
    filler.write_bytes(bytes(max(0, shutil.disk_usage(folder).free - int(left))))
    yield
    filler.unlink()


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Mount a disk read-only."""
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    yield
    subprocess.run(["mount", "-o", "remount,rw", folder], check=True)


@contextlib.contextmanager
def closed(folder: Path) -> Iterator[None]:
    """Take from its owner the permission to write into every folder on a disk."""
    modes = {path: path.stat().st_mode for path in (folder, *folder.rglob("*")) if path.is_dir()}
    for path in modes:
        path.chmod(0o555)
    yield
    for path, mode in modes.items():
        path.chmod(mode)


def obey_permissions() -> None:
    """Let the permissions of files count for the program that this process starts, even if it is root's."""
    for capability in (OVERRIDE_PERMISSIONS, SEARCH_EVERYWHERE):
        ctypes.CDLL(None).prctl(DROP_CAPABILITY, capability, 0, 0, 0)


def starve(name: str, folder: Path, fault: contextlib.AbstractContextManager, run: Path | None = None) -> dict:
    """Let a kind of work meet a fault; returns how often it was done, the sentences that refused it, and what is wrong.

    Args:
        name: a key of `interrupted_work.WORKS`.
        folder: its files, on a disk of `small_disk`.
        fault: a context in which this disk has the fault.
        run: a finished run, which `archives` and `export` need.
    """
    if run is not None:
        shutil.copytree(run, folder / "checkpoints" / run.name)
    pieces = SLOW_PIECES if name in ("training", "export") else PIECES
    reports: list[str] = []
    before: list[str] = []
    during: list[str] = []
    after: list[str] = []
    take(start_work(name, folder, reports, 1, obey_permissions), reports, before)
    with fault:
        take(start_work(name, folder, reports, pieces, obey_permissions), reports, during)
    refused = [line.partition(" ")[2] for line in during if line.startswith("refused ")]
    done = len(reports)
    take(start_work(name, folder, reports, pieces, obey_permissions), reports, after)
    problems = [*before, *(line for line in during if not line.startswith("refused ")), *after]
    if len(reports) < done + pieces:
        problems.append("it did not go on when the cause was gone")
    return {"refused": refused, "reports": len(reports), "problems": problems}


def measure(options: Options) -> dict:
    """Let all kinds of work meet faults; returns how many there were, and what was wrong."""
    draw = random.Random(0)
    os.environ |= {name: str(options.folder / name.lower()) for name in ("LEUKODASH_CHECKPOINTS", "LEUKODASH_CACHE")}
    os.environ |= {"LEUKODASH_DATA": str(make_demo(options.folder / "demo", cells=24, subjects=6))}
    run = jobs.start(small_config())
    wait(run, 600)
    found: dict[str, dict] = {}
    faults = {"full": full, "read-only": read_only, "closed": closed}
    number = QUICK_FAULTS if options.quick else FAULTS
    planned = [("full", ORDER[place % len(ORDER)]) for place in range(number)]
    planned += [(("read-only", "closed")[place % 2], ORDER[place // 2 % len(ORDER)]) for place in range(number)]
    for place, (kind, name) in enumerate(planned):
        with small_disk(options.folder / f"disk-{place}") as folder:
            arguments = (draw.random() * LARGE.get(name, SMALL),) if kind == "full" else ()
            needed = run.path if name in ("archives", "export") else None
            result = starve(name, folder, faults[kind](folder, *arguments), needed)
        print(f"{kind}, {name}: {result}", flush=True)
        row = found.setdefault(kind, {"faults": 0, "refused": 0, "problems": []})
        row["faults"] += 1
        row["refused"] += bool(result["refused"])
        row["problems"] += [f"{name}: {problem}" for problem in result["problems"]]
    return found
