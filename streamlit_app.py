"""LeukoDash, the app: ``streamlit run streamlit_app.py``. Each page answers one question."""

import streamlit as st

st.set_page_config(page_title="LeukoDash", page_icon=":material/biotech:", layout="wide")

page = st.navigation(
    [
        st.Page("pages/train.py", title="Train", icon=":material/model_training:", default=True),
        st.Page("pages/compare.py", title="Compare", icon=":material/leaderboard:"),
        st.Page("pages/classify.py", title="Classify", icon=":material/biotech:"),
        st.Page("pages/data.py", title="Data", icon=":material/grid_view:"),
    ],
    position="top",
)
st.session_state["routed"] = True  # see pages/shared.py, through_the_router
page.run()

st.divider()
st.caption("LeukoDash is for teaching and research. It is not a medical device and makes no diagnosis.")
