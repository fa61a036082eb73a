"""The command that says whether everything is in order."""

import click


@click.command()
def doctor() -> int:
    """Say what is wrong with Python, packages, GPU, weights, disk, data, cache and runs.

    Exit status 2 if anything is.
    """
    from leukodash.jobs.doctor import examine

    findings = examine()
    for finding in findings:
        click.echo(f"{'ok     ' if finding.fine else 'PROBLEM'} {finding.about}: {finding.words}")
    return 0 if all(finding.fine for finding in findings) else 2
