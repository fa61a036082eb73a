"""Commands about data sets: draw the demo cells, check a folder."""

from pathlib import Path

import click

from leukodash.cli.parameters import read_dataset
from leukodash.cli.terminal import progress_bar

FOLDER = click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")


@click.group()
def data() -> None:
    """Make or check a data set."""


@data.command()
@FOLDER
@click.option("--cells", default=600, show_default=True)
@click.option("--subjects", default=24, show_default=True)
@click.option("--seed", default=0, show_default=True)
def demo(folder: Path, cells: int, subjects: int, seed: int) -> None:
    """Draw the generated demo cells."""
    from leukodash.data.demo_cells import make_demo

    with progress_bar("drawing cells") as bar:
        written = make_demo(folder, cells, subjects, seed, bar)
    click.echo(f"{cells} generated cells of {subjects} subjects: {written}")


@data.command()
@FOLDER
def check(folder: Path) -> None:
    """Count the cells, decode every image, and look for duplicates and leaks."""
    import pandas as pd

    from leukodash.data.data_check import describe_duplicates, describe_left_out
    from leukodash.data.dataset import label_title
    from leukodash.data.images import cell_store
    from leukodash.data.split import Split, describe_split, find_leaks, make_split

    dataset = read_dataset(folder)
    cells = dataset.cells
    with progress_bar("decoding images") as bar:
        cell_store(dataset, 224, bar)
    kind = "generated" if dataset.generated else "real"
    click.echo(f"{len(cells)} {kind} cells, all readable; fingerprint {dataset.fingerprint[:12]}")
    for label, rows in cells.groupby("label"):
        subjects = f" of {rows['subject'].nunique()} subjects" if dataset.has_subjects else ""
        click.echo(f"  {label_title(str(label))} ({label}): {len(rows)} cells{subjects}")
    for sentence in describe_duplicates(dataset) or ["No two files show the same cell."]:
        click.echo(sentence)
    default = Split(kind="subject" if dataset.has_subjects else "image")
    part = make_split(cells, default)
    leaks = find_leaks(cells, part)
    click.echo(f"{describe_split(cells, part, default.kind)}: {len(leaks)} leaks between the parts")
    if dataset.has_folds and cells["fold"].nunique() > 1:
        leaks = find_leaks(cells, cells["fold"].map("fold {}".format))
        click.echo(f"The data set's own folds: {len(leaks)} leaks between them")
        for fold in sorted(cells["fold"].unique()):
            part = pd.Series("unused", index=cells.index).mask(cells["fold"] == fold, "test")
            if sentence := describe_left_out(cells, part):
                click.echo(f"Split by fold, tested on fold {fold}: {sentence}")
