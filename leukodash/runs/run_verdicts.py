"""The verdicts by person of one finished run, for its model card, the command line and the classify page."""

from leukodash.errors import RunError
from leukodash.evaluation.person_verdicts import PersonVerdicts, person_verdicts
from leukodash.runs.leaderboard import compare_runs
from leukodash.runs.run_folder import Run


def run_verdicts(run: Run, threshold: float | None = None) -> PersonVerdicts | None:
    """Return a run's verdicts on the people of its test part; None if their cells, or its predictions, are unknown.

    Args:
        run: a finished run.
        threshold: the probability from which a cell is called positive; None is the likeliest class.
    """
    try:
        comparison = compare_runs([run])
    except RunError:
        return None
    at = dict.fromkeys(comparison.predictions, threshold)
    return next(iter(person_verdicts(comparison, at).values()), None)
