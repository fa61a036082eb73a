"""Train: choose cells and networks, start runs, and watch how they learn."""

from leukodash.app.navigation import open_app

open_app()
