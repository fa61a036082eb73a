"""Full fine-tuning on a GPU: LeukoDash's loop against the bare step, and against the same in plain PyTorch.

Run it with ``KERAS_BACKEND=jax python -m benchmarks gpu``. Three sides, in images per second, one after the other:
- LeukoDash: `Batches` from the decoded store, eight views, ``train_on_batch``, the loss read after every step, as in
  training;
- the bare step: the same compiled ``train_on_batch`` over one batch that lies on the device already;
- PyTorch: torchvision's network, SGD, autocast to bfloat16, a `DataLoader` of eight workers that decodes files. Left
  out, with a word, where torch and torchvision are not installed.

The share of the device's peak counts three times the forward pass' multiplications and additions for a training step.
"""

import os
import time

import keras
import numpy as np
import pandas as pd

from benchmarks.harness import RECIPE, Options, some_cells
from leukodash.config.presets import make_config
from leukodash.config.run_config import RunConfig
from leukodash.data.dataset import Dataset, load_dataset
from leukodash.data.images import cell_store, read_image, square
from leukodash.data.split import make_split
from leukodash.jobs.hardware import device_names, gpu_words
from leukodash.models.build import build, split_model
from leukodash.models.weights import find_weights
from leukodash.training.batches import Batches
from leukodash.training.fit import compile_suffix
from leukodash.training.precision import choose_precision

FORWARD_FLOPS = {"resnet50": 8.2e9, "vgg16": 30.9e9}  # of one image at 224 pixels: He 2015, Simonyan 2014, doubled
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L4": 121e12, "T4": 65e12}  # dense 16 bit, data sheets
WARM, STEPS, CELLS = 5, 60, 2000


def rate(step: object, steps: int, batch: int) -> float:
    """Images per second of `step`, called that often after some calls that do not count."""
    for number in range(WARM):
        step(number)
    since = time.perf_counter()
    for number in range(WARM, WARM + steps):
        step(number)
    return steps * batch / (time.perf_counter() - since)


def leukodash_sides(config: RunConfig, dataset: Dataset, part: pd.Series, steps: int, device: str) -> dict[str, float]:
    """Measure LeukoDash's loop, and the same step on a batch that is on the device."""
    precision = choose_precision("auto", config.spec, device, lambda: 1.0)
    suffix = split_model(build(config, 2, find_weights(config.spec), precision), None)[1]
    compile_suffix(suffix, config, device)
    batches = Batches(config, cell_store(dataset, config.input_size), dataset, part)

    def endless() -> object:
        for epoch in range(1, 1_000_000):
            for inputs, labels, weight in batches.epoch(epoch, 0):
                if len(labels) == config.batch_size:
                    yield inputs, labels, weight

    stream = endless()

    def whole(_: int) -> float:
        inputs, labels, weight = next(stream)
        return float(suffix.train_on_batch(inputs, labels, sample_weight=weight, return_dict=True)["loss"])

    inputs, labels, weight = next(stream)
    there = [keras.ops.convert_to_tensor(array) for array in (inputs.astype(np.float32), labels, weight)]

    def bare(_: int) -> float:
        return float(suffix.train_on_batch(there[0], there[1], sample_weight=there[2], return_dict=True)["loss"])

    return {
        "precision": precision,
        "bare step": rate(bare, steps, config.batch_size),
        "LeukoDash": rate(whole, steps, config.batch_size),
    }


def torch_side(config: RunConfig, dataset: Dataset, part: pd.Series, steps: int) -> float | None:
    """Measure the same fine-tuning in plain PyTorch; None where it is not installed."""
    try:
        import torch
        import torchvision
    except ImportError:
        return None
    files = [dataset.root / file for file in dataset.cells["file"][part == "train"]]
    labels = (dataset.cells["label"][part == "train"] == dataset.positive).to_numpy().astype(int)

    class Cells(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, row: int) -> tuple:
            image = square(read_image(files[row]), config.input_size)
            return torch.from_numpy(image).permute(2, 0, 1), int(labels[row])

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = {"resnet50": torchvision.models.resnet50, "vgg16": torchvision.models.vgg16}[config.backbone]
    model = network(weights=None, num_classes=2).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=config.learning_rate, momentum=config.momentum)
    loader = torch.utils.data.DataLoader(
        Cells(), config.batch_size, shuffle=True, num_workers=min(8, os.cpu_count() or 1), drop_last=True,
        pin_memory=device.type == "cuda", persistent_workers=True,
    )  # fmt: skip

    def endless() -> object:
        while True:
            yield from loader

    stream = endless()

    def step(_: int) -> float:
        images, wanted = next(stream)
        images = images.to(device, non_blocking=True).float().div(255).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(model(images), wanted.to(device, non_blocking=True))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return float(loss)

    return rate(step, steps, config.batch_size)


def measure(options: Options) -> dict:
    """Run all sides; returns a row a network."""
    device = device_names()[0]
    title = gpu_words(device.replace("gpu-", "GPU ")) or device
    peak = next((value for name, value in PEAKS.items() if name in title), None)
    os.environ["LEUKODASH_CACHE"] = str(options.folder)
    dataset, rows = load_dataset(some_cells(options, CELLS)), []
    recipe = RECIPE | {
        "train_from": "all", "batchnorm": "trained", "optimizer": "sgd", "batch_size": 64, "flips": "views"
    }  # fmt: skip
    for backbone, flops in FORWARD_FLOPS.items():
        config = make_config("quick", backbone, dataset, **recipe)
        part = make_split(dataset.cells, config.split)
        row = {"backbone": backbone} | leukodash_sides(config, dataset, part, STEPS, device)
        row["LeukoDash ÷ bare step"] = row["LeukoDash"] / row["bare step"]
        torch = torch_side(config, dataset, part, STEPS)
        row["PyTorch"] = torch or "not measured: torch and torchvision are not installed"
        row["LeukoDash ÷ PyTorch"] = row["LeukoDash"] / torch if torch else None
        row["share of peak"] = 3 * flops * row["LeukoDash"] / peak if peak else None
        print(row, flush=True)
        rows.append(row)
    return {"device": title, "backend": keras.backend.backend(), "rows": rows}
