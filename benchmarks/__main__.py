"""``make bench``: every comparison, one after the other. Real cells and weights where ``../shared`` has them."""

import os
import subprocess
import sys
from pathlib import Path

SHARED = Path(__file__).resolve().parents[2] / "shared"


def main() -> None:
    """Run each benchmark in a process of its own."""
    data = ["--data", str(SHARED / "data" / "cnmc")] if (SHARED / "data" / "cnmc").is_dir() else []
    if (SHARED / "weights").is_dir():
        os.environ.setdefault("LEUKODASH_WEIGHTS", str(SHARED / "weights"))
    for command in (["benchmarks.engine", *data], ["benchmarks.compare_page"], ["benchmarks.coverage"]):
        print(f"\n--- {command[0]}", flush=True)
        subprocess.run([sys.executable, "-m", *command], check=True)


if __name__ == "__main__":
    main()
