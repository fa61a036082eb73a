"""LeukoDash, the app: ``streamlit run streamlit_app.py``."""

from leukodash.app.navigation import open_app

open_app()
