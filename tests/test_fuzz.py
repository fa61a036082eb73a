"""Hostile images, archives and prediction files: each ends in a result or in a sentence, soon and in little memory.

`LEUKODASH_FUZZ=8 pytest tests/test_fuzz.py` tries eight times as many; `LEUKODASH_FUZZ_SEED` sets the seed.
"""

import faulthandler
import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SEED = int(os.environ.get("LEUKODASH_FUZZ_SEED", "0"))
TIMES = float(os.environ.get("LEUKODASH_FUZZ", "1"))
COUNTS = {"images": 60, "archives": 25, "predictions": 25}
SECONDS, MEMORY = 5, 2**30  # of the processor, and resident

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux' /proc")


@pytest.mark.parametrize("kind", COUNTS)
def test_every_hostile_file_ends_soon_in_a_result_or_a_sentence(kind, tmp_path):
    import hostile_files

    files = list(getattr(hostile_files, kind)(SEED, round(COUNTS[kind] * TIMES)))
    for number, (_, data) in enumerate(files):
        (tmp_path / str(number)).write_bytes(data)
    (tmp_path / "names.json").write_text(json.dumps([name for name, _ in files]))
    shown = subprocess.run(
        [sys.executable, __file__, kind, str(tmp_path)], check=False, cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    findings = [json.loads(line) for line in shown.stdout.splitlines()]
    if report := os.environ.get("LEUKODASH_FUZZ_REPORT"):
        with Path(report).open("a") as stream:
            stream.writelines(json.dumps({"kind": kind, "seed": SEED, **finding}) + "\n" for finding in findings)
    assert shown.returncode == 0, f"file {len(findings)} of seed {SEED}, '{files[len(findings)][0]}':\n{shown.stderr}"
    slow = [finding for finding in findings if finding["seconds"] > SECONDS or finding["memory"] > MEMORY]
    assert not [finding for finding in findings if finding["fault"]]
    assert not slow
    assert {finding["used"] for finding in findings} == {True, False}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Pillow's and pandas', on what is damaged
def test_commands_say_what_is_wrong_with_hostile_files(tmp_path, monkeypatch, capsys):
    import hostile_files

    from leukodash.__main__ import main
    from leukodash.runs.run_folder import published_runs

    monkeypatch.delenv("LEUKODASH_PUBLISHED")
    run = next(run for run in published_runs() if run.weights.is_file() and run.config.backbone == "mobilenet")
    count = round(12 * TIMES)
    pictures, archives, tables = (list(getattr(hostile_files, kind)(SEED, count)) for kind in COUNTS)
    for number, (_, data) in enumerate(pictures):
        path = tmp_path / "cells" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    for number, (_, data) in enumerate(archives):
        (tmp_path / f"{number}.zip").write_bytes(data)
    for number, (_, data) in enumerate(tables):
        (tmp_path / f"{number}.csv").write_bytes(data)
        assert main(["import", str(tmp_path / f"{number}.csv")]) in (0, 2)
    assert main(["data", "check", str(tmp_path / "cells")]) == 2
    files = [str(tmp_path / "cells"), *map(str, tmp_path.glob("*.zip"))]
    assert (
        main(["classify", "--run", run.id, "--method", "evidence", "--csv", str(tmp_path / "answers.csv"), *files]) == 2
    )
    shown = capsys.readouterr().err
    assert "cells cannot be used" in shown
    assert "is damaged" in shown
    assert (tmp_path / "answers.csv").is_file()


def _use(kind, data, name):
    """Do with a file what the app does; returns whether it could be used. Raises LeukoDashError."""
    from leukodash.data.archive import unpack
    from leukodash.data.images import has_more_frames, read_image
    from leukodash.runs.imported_predictions import import_predictions
    from leukodash.smears.detection import cut_outs, find_white_cells, looks_like_smear

    if kind == "images":
        has_more_frames(data)
        image = read_image(data, name)
        if looks_like_smear(image):
            list(cut_outs(image, find_white_cells(image)))
    elif kind == "archives":
        return bool(unpack(data, name, 50, 30 * 2**20, 10 * 2**20).files)
    else:
        import_predictions(data, name)
    return True


def _main(kind, folder):
    """Use each file, and print what came of it."""
    from leukodash.errors import LeukoDashError

    warnings.simplefilter("ignore")
    for number, name in enumerate(json.loads((folder / "names.json").read_text())):
        data = (folder / str(number)).read_bytes()
        faulthandler.dump_traceback_later(60, exit=True)
        fault, used, start = "", False, time.process_time()
        try:
            used = _use(kind, data, name)
        except LeukoDashError as error:
            fault = "" if str(error).isprintable() else f"not printable: {str(error)!r}"
        except Exception as error:  # noqa: BLE001
            fault = repr(error)[:500]
        seconds = round(time.process_time() - start, 2)
        memory = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
        found = {"name": name[-80:], "fault": fault, "used": used, "seconds": seconds, "memory": memory}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]))
