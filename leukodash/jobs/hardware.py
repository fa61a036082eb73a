"""The hardware of this machine: GPUs, bfloat16 units, and the speed of a matrix product."""

import contextlib
import json
import os
import platform
import subprocess
import time
from functools import lru_cache
from pathlib import Path

import numpy as np

from leukodash import settings
from leukodash.atomic_write import write_atomic
from leukodash.jobs.queue import devices

BFLOAT16_UNITS = {"avx512_bf16", "amx_bf16"}  # Linux' names on x86; on Arm it is bf16
GPU_SECONDS = 2.0  # that an answer of nvidia-smi is cached
CGROUPS = Path("/sys/fs/cgroup")
MATRIX_ROWS = 768  # large enough to keep every core busy, small enough to take milliseconds


@lru_cache(maxsize=1)
def device_names() -> tuple[str, ...]:
    """Return the devices that runs train on; cached, since `nvidia-smi` is slow."""
    return tuple(devices())


def on_gpu() -> bool:
    """Return whether runs train on a GPU here."""
    return device_names()[0].startswith("gpu")


def memory_limit_bytes() -> int:
    """Return the memory that this machine, or the container around LeukoDash, has in all."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    with contextlib.suppress(OSError):  # only Linux has control groups
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            base, name = (CGROUPS, "memory.max") if not controllers else (CGROUPS / "memory", "memory.limit_in_bytes")
            if not controllers or "memory" in controllers.split(","):
                for folder in (base / group.strip("/"), base):  # in a container, the group's path is that of its host
                    with contextlib.suppress(OSError, ValueError):  # no such file, or "max": no limit
                        limits.append(int((folder / name).read_text()))
    return min(limits)


def memory_left(control: Path = Path("/sys/fs/cgroup"), machine: Path = Path("/proc/meminfo")) -> int | None:
    """Return the free memory in bytes, within a container's limit too; None if the system does not report it."""
    left = []
    for limit, used, inactive in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        with contextlib.suppress(OSError, ValueError):  # the other cgroup version, or "max": no limit
            bound, current = int((control / limit).read_text()), int((control / used).read_text())
            cached = (control / used).with_name("memory.stat").read_text().split()
            left.append(bound - current + int(cached[cached.index(inactive) + 1]))
    with contextlib.suppress(OSError, ValueError):
        words = machine.read_text().split()
        left.append(1024 * int(words[words.index("MemAvailable:") + 1]))
    return min(left, default=None)


def memory_used_bytes() -> int:
    """Return the memory that this process takes; 0 if the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return 1024 * int(next(line for line in lines if line.startswith("VmRSS:")).split()[1])


@lru_cache(maxsize=1)
def cpu_has_bfloat16() -> bool:
    """Return whether this processor multiplies bfloat16 in hardware; False if the system does not say."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    flags = next((line.split() for line in text.splitlines() if line.startswith(("flags", "Features"))), [])
    return bool(BFLOAT16_UNITS.intersection(flags) or "bf16" in flags)


@lru_cache(maxsize=1)
def matrix_gflops() -> float:
    """Return the speed of a float32 matrix product in 10⁹ operations per second; measured once and cached."""
    path = settings.cache() / "speed.json"
    try:
        known = json.loads(path.read_bytes())
        if known["machine"] == platform.node():
            return float(known["gflops"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not measured here yet
    matrix = np.random.default_rng(0).random((MATRIX_ROWS, MATRIX_ROWS), np.float32)
    times = []
    for _ in range(8):  # the fastest one counts: other processes only make it slower
        since = time.perf_counter()
        matrix @ matrix
        times.append(time.perf_counter() - since)
    gflops = 2 * MATRIX_ROWS**3 / min(times) / 1e9
    with contextlib.suppress(OSError):  # if the cache cannot be written, the next process measures again
        write_atomic(path, json.dumps({"machine": platform.node(), "gflops": round(gflops, 1)}).encode(), False)
    return gflops


def gpu_words(device: str) -> str:
    """Return name, memory and use of a GPU, such as ``"NVIDIA H100, 3.1 of 79.6 GiB, 64 % busy"``, or "".

    Args:
        device: as in a run's status: ``"GPU 0"``.
    """
    kind, _, number = device.partition(" ")
    return _gpus(int(time.monotonic() / GPU_SECONDS)).get(number, "") if kind == "GPU" else ""


@lru_cache(maxsize=2)
def _gpus(_moment: int) -> dict[str, str]:
    """Return what ``nvidia-smi`` says of each GPU, by number; ``_moment`` is the key of the cache."""
    fields = "index,name,memory.used,memory.total,utilization.gpu"
    query = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    try:
        text = subprocess.run(query, capture_output=True, text=True, timeout=5, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    words = {}
    for line in text.splitlines():
        number, name, used, total, busy = (part.strip() for part in line.split(","))
        known = used.isdigit() and total.isdigit()  # some cards answer "[N/A]"
        memory = f"{int(used) / 1024:.1f} of {int(total) / 1024:.1f} GiB" if known else ""
        words[number] = ", ".join(part for part in (name, memory, f"{busy} % busy" if busy.isdigit() else "") if part)
    return words
