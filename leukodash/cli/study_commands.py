"""The command about studies: train their runs, and write the results."""

from pathlib import Path

import click

from leukodash.cli.parameters import PATH, Names
from leukodash.cli.run_commands import watch
from leukodash.cli.terminal import print_table
from leukodash.errors import RunError


@click.command()
@click.argument("names", nargs=-1, type=Names("leukodash.studies.catalogue:STUDIES"), metavar="[STUDY]...")
@click.option("--data", type=PATH, metavar="DIR", help="Folder of C-NMC; trains the runs that are missing.")
@click.option("--whole", is_flag=True, help="Reduce nothing on a machine without a GPU.")
@click.option("--write", type=PATH, metavar="FILE", help="Write the results as Markdown.")
@click.option("--share", "target", type=PATH, metavar="DIR", help="Write the finished runs there as archives.")
def study(names: tuple[str, ...], data: Path | None, whole: bool, write: Path | None, target: Path | None) -> int:
    """Train the runs of studies, and write their results. Without options, list the studies."""
    from leukodash.atomic_write import write_atomic
    from leukodash.studies.catalogue import STUDIES, done, share
    from leukodash.studies.results_page import results_page

    status = 0
    if data:
        for name in names or STUDIES:
            status = max(status, _train(name, data, whole))  # a study that fails does not stop the others
            if status == 130:  # Control-C
                return status
    elif not (write or target):
        rows = [(name, study.title, study.question, str(len(study.runs))) for name, study in STUDIES.items()]
        plain = "\n".join(f"{name}: {title}. {question} ({count} runs)" for name, title, question, count in rows)
        print_table(("Study", "Title", "Question", "Runs"), rows, plain)
    if write:
        results = done()
        if not results:
            raise RunError("No study has a finished run yet. Train some: python -m leukodash study --data DIR")
        page, figures = results_page(results, write.stem)
        write_atomic(write, page.encode())
        for name, figure in figures.items():
            write_atomic(write.with_suffix("") / name, figure.encode())
        click.echo(write)
    if target:
        click.echo(f"{target}: {share(target) / 1e6:.1f} MB")
    return status


def _train(name: str, data: Path, whole: bool) -> int:
    from leukodash.jobs import launch
    from leukodash.runs.access import OPERATOR
    from leukodash.runs.run_folder import LIVE, all_runs, readable
    from leukodash.studies.catalogue import STUDIES, configs, find_matching_run, record_study_run

    status, planned = 0, configs(STUDIES[name], data)
    for number, (study_run, requested, reduced) in enumerate(planned, start=1):
        config = requested if whole else reduced
        run = find_matching_run(config, readable(all_runs())[0])
        if run is None or not run.metrics:
            click.echo(f"{name}, {number} of {len(planned)}: {config.spec.title}, {study_run.label}", err=True)
            if run is None:
                run = launch.start(config, OPERATOR, notes=f"Study {name}: {study_run.label}")
            elif run.state not in LIVE:
                launch.resume(run, OPERATOR)
            try:
                if watch(run) == 130:
                    return 130
            except RunError as error:
                click.echo(error, err=True)
                status = 2
                continue
        record_study_run(name, study_run, config, requested, run)
    return status
