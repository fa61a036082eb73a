"""Compare: which network is better, and is the difference real?"""

from leukodash.app.navigation import open_app

open_app()
