"""Lesson: why did the paper's ResNet50 fail?"""

from leukodash.app.navigation import open_app

open_app()
