"""Commands about data sets: draw the demo cells, check a folder."""

import argparse

from leukodash.cli.progress_bar import Bar


def demo(options: argparse.Namespace) -> int:
    """Draw the generated demo cells."""
    from leukodash.data.demo_cells import make_demo

    folder = make_demo(options.folder, options.cells, options.subjects, options.seed, Bar("drawing cells"))
    print(f"{options.cells} generated cells of {options.subjects} subjects: {folder}")
    return 0


def check(options: argparse.Namespace) -> int:
    """Count a data set's cells, decode every image, and look for duplicates and leaks."""
    from leukodash.data.dataset import label_title, load_dataset
    from leukodash.data.images import cell_store
    from leukodash.data.split import Split, find_leaks, make_split, split_words

    dataset = load_dataset(options.folder, Bar("reading files"))
    cells = dataset.cells
    cell_store(dataset, 224, Bar("decoding images"))
    kind = "generated" if dataset.generated else "real"
    print(f"{len(cells)} {kind} cells, all readable; fingerprint {dataset.fingerprint[:12]}")
    for label, rows in cells.groupby("label"):
        subjects = f" of {rows['subject'].nunique()} subjects" if dataset.has_subjects else ""
        print(f"  {label_title(label)} ({label}): {len(rows)} cells{subjects}")
    twins = int(cells.duplicated("sha256").sum())
    print(f"{twins} images are byte-identical to another one." if twins else "No two images are byte-identical.")
    default = Split(kind="subject" if dataset.has_subjects else "image")
    part = make_split(cells, default)
    leaks = find_leaks(cells, part)
    print(f"{split_words(cells, part, default.kind)}: {len(leaks)} leaks between the parts")
    if dataset.has_folds and cells["fold"].nunique() > 1:
        leaks = find_leaks(cells, cells["fold"].map("fold {}".format))
        print(f"The data set's own folds: {len(leaks)} leaks between them")
    return 0
