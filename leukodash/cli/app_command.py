"""The command that starts the app."""

import os
import sys

import click

from leukodash import settings


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[STREAMLIT OPTIONS]")
def app(options: tuple[str, ...]) -> None:
    """Start the app. Options are those of `streamlit run`, such as --server.port 8502."""
    # Streamlit reads .streamlit/config.toml beside the script, and one in the current folder over it.
    script = str(settings.shipped("streamlit_app.py"))
    os.execv(sys.executable, [sys.executable, "-m", "streamlit", "run", script, *options])
