"""The command about studies: train what they ask for, and write what came out."""

import argparse
import sys

from leukodash.atomic_write import write_atomic
from leukodash.cli.run_commands import watch
from leukodash.errors import RunError
from leukodash.jobs import launch as jobs
from leukodash.jobs.live_status import readable
from leukodash.runs.run_folder import LIVE, Run, all_runs
from leukodash.studies.catalogue import STUDIES, configs, done, find_matching_run, record_study_run, share


def study(options: argparse.Namespace) -> int:
    """Train the runs of studies that are missing, one after the other; ``--write`` and ``--share`` give them out."""
    code = 0
    if options.data:
        for name in options.names or STUDIES:
            code = max(code, _train(name, options))  # one that failed keeps no other from being trained
            if code == 130:  # Control-C
                return code
    elif not (options.write or options.share):
        for name, one in STUDIES.items():
            print(f"{name}: {one.title}. {one.question} ({len(one.asked)} runs)")
    if options.write:
        from leukodash.studies.results_page import results_page

        results = done()
        if not results:
            raise RunError("No study has a finished run yet. Train some: python -m leukodash study --data DIR")
        page, figures = results_page(results, options.write.stem)
        write_atomic(options.write, page.encode())
        for name, figure in figures.items():
            write_atomic(options.write.with_suffix("") / name, figure.encode())
        print(options.write)
    if options.share:
        print(f"{options.share}: {share(options.share) / 1e6:.1f} MB")
    return code


def _train(name: str, options: argparse.Namespace) -> int:
    code, asked = 0, configs(STUDIES[name], options.data)
    for number, (one, whole, smaller) in enumerate(asked, start=1):
        config = whole if options.whole else smaller
        run = find_matching_run(config, readable(all_runs())[0])
        if run is None or not run.metrics:
            words = f"{name}, {number} of {len(asked)}: {config.spec.title}, {one.label}"
            print(words, file=sys.stderr)
            run = _begun(run) or jobs.start(config, notes=f"Study {name}: {one.label}")
            try:
                if watch(run) == 130:
                    return 130
            except RunError as error:
                print(error, file=sys.stderr)
                code = 2
                continue
        record_study_run(name, one, config, whole, run)
    return code


def _begun(run: Run | None) -> Run | None:
    if run is not None and run.state not in LIVE:
        return jobs.resume(run)
    return run
