"""The command line: ``python -m leukodash``. The same functions as the pages, with the same words.

Exit status: 0 done, 1 an error in LeukoDash, 2 something that the user can mend (the sentence says how).
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from leukodash.cam.methods import METHODS
from leukodash.cli import data_commands as data
from leukodash.cli import result_commands as results
from leukodash.cli import run_commands as runs
from leukodash.cli import study_commands as studies
from leukodash.config.presets import PRESETS
from leukodash.errors import LeukoDashError
from leukodash.models.backbones import BACKBONES
from leukodash.studies.catalogue import STUDIES


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return options.run_command(options)
    except LeukoDashError as error:
        print(error, file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of a pipe had enough
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m leukodash",
        description="Train, compare and explain networks for acute lymphoblastic leukemia cells. No medical device.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    what = commands.add_parser("data", help="make or check a data set").add_subparsers(required=True, metavar="WHAT")
    demo = what.add_parser("demo", help="draw the generated demo cells")
    demo.add_argument("folder", type=Path, metavar="DIR")
    demo.add_argument("--cells", type=int, default=600)
    demo.add_argument("--subjects", type=int, default=24)
    demo.add_argument("--seed", type=int, default=0)
    demo.set_defaults(run_command=data.demo)
    check = what.add_parser("check", help="count, decode every image, and look for duplicates and leaks")
    check.add_argument("folder", type=Path, metavar="DIR")
    check.set_defaults(run_command=data.check)

    _run_commands(commands)

    compare = commands.add_parser("compare", help="compare finished runs")
    compare.add_argument("runs", nargs="+", metavar="RUN")
    compare.add_argument("--json", type=Path, metavar="FILE", help="write the table as JSON too")
    compare.add_argument("--report", type=Path, metavar="FILE", help="write an HTML report that works offline")
    compare.set_defaults(run_command=results.compare)

    card = commands.add_parser("card", help="print a finished run's model card, in Markdown")
    card.add_argument("run", metavar="RUN")
    card.set_defaults(run_command=results.card)

    bring = commands.add_parser("import", help="bring another tool's predictions, to be compared")
    bring.add_argument("file", type=Path, metavar="FILE", help="CSV: file, label, p_<class> …, optionally subject")
    bring.add_argument("--title", default="", help="a name for it")
    bring.add_argument("--owner", default="", help="whose it is")
    bring.set_defaults(run_command=results.bring)

    classify = commands.add_parser("classify", help="class, probabilities and heat map of images")
    images = "image files, folders or ZIPs of them, whole smears"
    classify.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help=images)
    classify.add_argument("--run", action="append", required=True, metavar="RUN", help="may be given several times")
    classify.add_argument("--csv", type=Path, metavar="FILE", help="write the table to this file")
    pictures = "write heat maps over the cells as PNG files into this folder, or ZIP file"
    classify.add_argument("--overlays", type=Path, metavar="DIR", help=pictures)
    classify.add_argument("--method", default="gradcam", choices=list(METHODS), metavar="NAME", help=", ".join(METHODS))
    classify.add_argument("--target", metavar="CLASS", help="which class heat maps explain; by default the likeliest")
    classify.add_argument("--layer", metavar="NAME", help="whose feature maps; by default the last one's")
    rules = "how a cell is put into a class: the likeliest, or from the best threshold on validation cells"
    classify.add_argument("--rule", default="likeliest", choices=["likeliest", "validation"], help=rules)
    classify.set_defaults(run_command=results.classify)

    export = commands.add_parser("export", help="write a finished run's network for other programs")
    export.add_argument("run", metavar="RUN")
    export.add_argument("--format", default="keras", choices=["keras", "onnx", "litert"])
    export.add_argument("--output", type=Path, default=Path(), metavar="DIR", help="folder; by default this one")
    export.set_defaults(run_command=results.export)

    _study_command(commands)
    return parser


def _study_command(commands: "argparse._SubParsersAction") -> None:
    study = commands.add_parser("study", help="train the runs of studies, and write their results; alone, list them")
    study.add_argument("names", nargs="*", choices=[*STUDIES, []], metavar="STUDY", help=", ".join(STUDIES))
    study.add_argument("--data", type=Path, metavar="DIR", help="C-NMC's folder; trains what is missing")
    study.add_argument("--whole", action="store_true", help="take nothing back for want of a GPU")
    study.add_argument("--write", type=Path, metavar="FILE", help="write what came out, as Markdown")
    study.add_argument("--share", type=Path, metavar="DIR", help="copy the finished runs there, made small")
    study.set_defaults(run_command=studies.study)


def _run_commands(commands: "argparse._SubParsersAction") -> None:
    """Add what starts runs, and what is done with them."""
    what = argparse.ArgumentParser(add_help=False)
    what.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of the data set")
    what.add_argument("--preset", default="recommended", choices=list(PRESETS), metavar="NAME", help=", ".join(PRESETS))
    one = {"required": True, "choices": list(BACKBONES), "metavar": "NAME", "help": ", ".join(BACKBONES)}
    change = argparse.ArgumentParser(add_help=False)
    change.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any setting: epochs=10")
    whose = argparse.ArgumentParser(add_help=False)
    whose.add_argument("--owner", default="", help="whose run it is")

    train = commands.add_parser("train", help="train one run, in the foreground", parents=[what, change, whose])
    train.add_argument("--backbone", **one)
    train.add_argument("--title", default="", help="a name for the run")
    train.set_defaults(run_command=runs.train)

    for name, words, function in (
        ("sweep", "train several backbones, with several values of one setting", runs.sweep),
        ("estimate", "say what such runs would take on this machine", runs.estimate),
    ):
        several = commands.add_parser(name, help=words, parents=[what, change, whose])
        several.add_argument("--backbone", nargs="+", **one)
        several.add_argument("--vary", metavar="KEY=VALUE,VALUE", help="a setting and the values to try")
        several.set_defaults(run_command=function)

    find = commands.add_parser("find-lr", help="search the learning rate", parents=[what, change])
    find.add_argument("--backbone", **one)
    find.set_defaults(run_command=runs.find_rate)

    for name, words, function in (
        ("resume", "go on with a stopped, failed or lost run", runs.resume),
        ("stop", "ask a run to stop and keep what it reached", runs.stop),
        ("again", "train a new run with an old one's settings, or with some changed", runs.again),
        ("about", "show, or write, a run's name, owner and notes", runs.about),
        ("log", "the end of a run's output", runs.log),
        ("delete", "delete a run that is over", runs.delete),
    ):
        command = commands.add_parser(name, help=words, parents=[change, whose] if name == "again" else [])
        command.add_argument("run", metavar="RUN")
        if name == "about":
            for field in ("title", "owner", "notes"):
                command.add_argument(f"--{field}")
        if name == "log":
            command.add_argument("--lines", type=int, default=20)
        if name == "delete":
            command.add_argument("--undo", action="store_true", help="bring it back; possible for a day")
        command.set_defaults(run_command=function)

    listing = commands.add_parser("runs", help="list all runs, newest first")
    listing.add_argument("--owner", help="of this person only")
    listing.set_defaults(run_command=runs.runs)


if __name__ == "__main__":
    sys.exit(main())
