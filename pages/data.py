"""Data: can these cells be trusted to train on?"""

from leukodash.app.navigation import open_app

open_app()
