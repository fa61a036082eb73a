"""The command line: ``leukodash``, or ``python -m leukodash``. The same functions as the pages, with the same words.

Exit status: 0 done, 1 an error in LeukoDash, 2 a problem that the user can solve (the sentence says how), 130 stopped.
"""

import os
import sys
from collections.abc import Sequence

import click

import leukodash
from leukodash.cli import app_command, data_commands, doctor_command, result_commands, run_commands, study_commands
from leukodash.errors import LeukoDashError


class InOrder(click.Group):
    """A group whose help lists the commands in the order of use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names as added."""
        return list(self.commands)


@click.group(cls=InOrder, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(leukodash.__version__)
def cli() -> None:
    """Train, compare and explain networks for acute lymphoblastic leukemia cells. Not a medical device."""


for _command in (
    app_command.app,
    doctor_command.doctor,
    data_commands.data,
    run_commands.train,
    run_commands.sweep,
    run_commands.estimate,
    run_commands.find_lr,
    run_commands.again,
    run_commands.resume,
    run_commands.stop,
    run_commands.runs,
    run_commands.about,
    run_commands.log,
    run_commands.delete,
    result_commands.compare,
    result_commands.card,
    result_commands.import_file,
    result_commands.classify,
    result_commands.export,
    study_commands.study,
):
    cli.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's remarks would bury the sentence of an error
    try:
        return cli.main(arguments, standalone_mode=False) or 0
    except click.Abort:
        return 130
    except click.ClickException as error:
        click.echo(error.format_message(), err=True)
    except LeukoDashError as error:
        click.echo(error, err=True)
    return 2


if __name__ == "__main__":
    sys.exit(main())
