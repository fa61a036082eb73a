"""Classify: what is this cell, and what did the network look at?"""

from leukodash.app.navigation import open_app

open_app()
