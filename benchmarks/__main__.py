"""``make bench``: every comparison, one after the other. Real cells and weights where ``../shared`` has them."""

import os
import subprocess
import sys
from pathlib import Path

SHARED = Path(__file__).resolve().parents[2] / "shared"
REAL = SHARED / "data" / "cnmc"
ON_CELLS = (
    "engine",
    "features",
    "memory",
    "explain_speed",
    "export",
)  # take --data
ALONE = ("kills", "compare_load", "class_load", "classify_load", "coverage", "smear", "novelty_rates")


def main() -> None:
    """Run each benchmark in a process of its own. What needs a GPU is run by itself: ``benchmarks.gpu``."""
    data = ["--data", str(REAL)] if REAL.is_dir() else []
    if (SHARED / "weights").is_dir():
        os.environ.setdefault("LEUKODASH_WEIGHTS", str(SHARED / "weights"))
    for name in (*ON_CELLS, *ALONE):
        print(f"\n--- {name}", flush=True)
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *(data if name in ON_CELLS else [])], check=True)


if __name__ == "__main__":
    main()
