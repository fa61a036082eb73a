"""``make bench``, ``python -m benchmarks [NAME ...] [--quick] [--write docs/performance.md]``.

Each benchmark runs in a process of its own, one after the other, and writes JSON to ``benchmarks/results``. Real cells
and weights are used where ``../shared`` has them. ``gpu`` needs a GPU and ``full_disks`` root's right to mount disks;
they run only when they are named.
"""

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.harness import ROOT, SHARED, Options, write

ALL = (
    "engine", "heads", "features", "memory", "kills", "class_load", "compare_load", "classify_load", "explain_speed",
    "export", "coverage", "people_coverage", "calibration_coverage", "heat_maps", "smear", "changed_copies",
    "novelty_rates", "first_minute", "visitors",
)  # fmt: skip
QUICK = (
    "engine",
    "features",
    "memory",
    "kills",
    "class_load",
    "compare_load",
    "first_minute",
)  # about 12 minutes on two cores


def main() -> None:
    """Run the benchmarks that are named, or all; then make the page if it is asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Run benchmarks, each in a process of its own."
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"one of {', '.join(ALL)}, gpu, full_disks; without: all but these two"
    )
    parser.add_argument(
        "--quick", action="store_true", help=f"fewer networks and cells; without names: {', '.join(QUICK)}"
    )
    parser.add_argument("--data", type=Path, default=SHARED / "data" / "cnmc", help="folder of real cells")
    parser.add_argument("--write", type=Path, help="make this page from the results; without names, measure nothing")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)  # in this process
    options = parser.parse_args()
    if (SHARED / "weights").is_dir():
        os.environ.setdefault("LEUKODASH_WEIGHTS", str(SHARED / "weights"))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if options.alone:
        (name,) = options.names
        measure = importlib.import_module(f"benchmarks.{name}").measure
        with tempfile.TemporaryDirectory() as folder:
            write(name, measure(Options(options.data if options.data.is_dir() else None, options.quick, Path(folder))))
        return
    everything = () if options.write and not options.quick else QUICK if options.quick else ALL
    for name in options.names or everything:
        print(f"\n--- {name}", flush=True)
        command = [sys.executable, "-m", "benchmarks", name, "--alone", "--data", str(options.data)]
        subprocess.run([*command, *(["--quick"] if options.quick else [])], check=True, cwd=ROOT)
    if options.write:
        from benchmarks.performance_page import update

        update(options.write)


if __name__ == "__main__":
    main()
