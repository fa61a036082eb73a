"""LeukoDash, the app: ``streamlit run streamlit_app.py``. Each page answers one question."""

import streamlit as st

from pages.shared import routed_page

st.set_page_config(page_title="LeukoDash", page_icon=":material/biotech:", layout="wide")
routed_page().run()

st.divider()
st.caption("LeukoDash is for teaching and research. It is not a medical device and makes no diagnosis.")
