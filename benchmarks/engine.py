"""Frozen backbone, new head, 100 epochs on 1,000 cells: LeukoDash against plain Keras and against a tuned peer.

    python -m benchmarks.engine [--data DIR] [--backbones NAME …] [--epochs 100] [--cells 1000]

All on the same cells, in the same split, one after the other on the same machine. The other sides are measured on two
epochs and scaled (start + epochs × the faster of the two). LeukoDash is measured whole, from the start of its process
to its results, with an empty cache (first), and with a filled one and another seed (second).
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from leukodash.data.dataset import load_dataset
from leukodash.data.demo_cells import make_demo
from leukodash.jobs.hardware import cpu_has_bfloat16

RESULTS = Path(__file__).with_name("results")
WAYS = ["files", "cached"]  # see `benchmarks.plain`
HEAD = ["head=[]", "flips=none", "split.kind=image", "schedule=constant", "class_weights=false"]


def machine() -> str:
    """Words on the machine that a figure was measured on."""
    return f"{platform.machine()}, {os.cpu_count()} cores, bfloat16 units: {cpu_has_bfloat16()}"


def write(name: str, found: dict) -> None:
    """Write what was measured to ``benchmarks/results/<name>.json``."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")


def some_cells(source: Path | None, folder: Path, number: int) -> Path:
    """Copy that many cells of a data set, half of each class; without a source, draw them."""
    if source is None:
        return make_demo(folder / "demo", cells=number)
    dataset = load_dataset(source)
    chosen = dataset.cells.groupby("label").sample(number // 2, random_state=0, replace=False)
    for file in chosen["file"]:
        (folder / "cells" / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(dataset.root / file, folder / "cells" / file)
    return folder / "cells"


def leukodash(data: Path, backbone: str, epochs: int, settings: list[str], environment: dict) -> tuple[float, Path]:
    """Train a run by the command line; returns the seconds of the whole process and the run's folder."""
    command = [sys.executable, "-m", "leukodash", "train", "--data", str(data), "--backbone", backbone]
    for setting in [f"epochs={epochs}", *settings]:
        command += ["--set", setting]
    since = time.perf_counter()
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if shown.returncode:
        raise RuntimeError(shown.stderr)
    return time.perf_counter() - since, Path(shown.stdout.split()[-1])


def other_side(way: str, data: Path, run: Path, backbone: str, epochs: int, settings: list[str], env: dict) -> float:
    """Measure two epochs of the other side in a process of its own; returns the seconds that all epochs would take."""
    command = [sys.executable, "-m", "benchmarks.plain", backbone, way, str(data), str(run / "split.csv")]
    for setting in settings:
        command += ["--set", setting]
    shown = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    measured = json.loads(shown.stdout.splitlines()[-1])
    return measured["start"] + epochs * min(measured["epochs"])


def compare(data: Path, backbone: str, settings: list[str], folder: Path, options: argparse.Namespace) -> dict:
    """Measure all sides for one backbone; seconds and ratios, and what some seeds reach in both precisions."""
    epochs, ways = options.epochs, options.ways
    environment = os.environ | {
        "LEUKODASH_CACHE": str(folder / f"cache-{backbone}"),
        "LEUKODASH_CHECKPOINTS": str(folder / "checkpoints"),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }

    def ours(*more: str) -> tuple[float, Path]:
        return leukodash(data, backbone, epochs, [*settings, *more], environment)

    first, run = ours()
    second, again = ours("seed=1")
    precision = json.loads((run / "model.json").read_bytes())["precision"]
    row = {"precision": precision, "first": first, "second": second}
    if precision != "float32":
        row["first in float32"], exact = ours("precision=float32")
        seeds = {precision: [run, again], "float32": [exact]}
        seeds[precision] += [ours(f"seed={seed}")[1] for seed in range(2, options.seeds)]
        seeds["float32"] += [ours("precision=float32", f"seed={seed}")[1] for seed in range(1, options.seeds)]
        row["accuracy by seed"] = {name: [_metrics(one)["accuracy"] for one in runs] for name, runs in seeds.items()}
    for way in ways:
        row[way] = other_side(way, data, run, backbone, epochs, settings, environment)
    row |= {"accuracy": _metrics(run)["accuracy"], "cells tested": _metrics(run)["n"]}
    row["seconds of the stages, first"] = _metrics(run)["seconds"]
    row["seconds of the stages, second"] = _metrics(again)["seconds"]
    row["ratios"] = {"first ÷ second": first / second}
    for way in ways:
        row["ratios"] |= {f"{way} ÷ first": row[way] / first, f"{way} ÷ second": row[way] / second}
        if "first in float32" in row:
            row["ratios"][f"{way} ÷ first in float32"] = row[way] / row["first in float32"]
    return row


def _metrics(run: Path) -> dict:
    return json.loads((run / "metrics.json").read_bytes())


def main() -> None:
    """Run the comparison, print its table, write its JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a C-NMC folder; the generated cells without it")
    parser.add_argument("--backbones", nargs="+", default=["mobilenet", "googlenet", "resnet50", "vgg16"])
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3, help="to compare precisions with, where there are two")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS, help="the other sides")
    parser.add_argument("--set", action="append", default=[], help="further settings, for all sides")
    parser.add_argument("--name", default="engine", help="of the JSON file")
    options = parser.parse_args()
    results = {
        "what": f"{options.epochs} epochs, {options.cells} cells; the other sides measured on 2 epochs and scaled",
        "machine": machine(),
        "data": "generated cells" if options.data is None else "real cells",
        "settings": [*HEAD, *options.set],
        "backbones": {},
    }
    print(results["what"], "·", results["machine"], "·", results["data"])
    with tempfile.TemporaryDirectory() as temporary:
        data = some_cells(options.data, Path(temporary), options.cells)
        for backbone in options.backbones:
            row = compare(data, backbone, [*HEAD, *options.set], Path(temporary), options)
            results["backbones"][backbone] = row
            ratios = "  ".join(f"{name}: {value:.1f}×" for name, value in row["ratios"].items())
            print(f"{backbone:<10} {row['precision']:<8} first {row['first']:.0f} s  {ratios}", flush=True)
            write(options.name, results)


if __name__ == "__main__":
    main()
