"""Is everything in order? What the command ``doctor`` says, for whoever runs the app on their own machine."""

import streamlit as st

from leukodash import settings
from leukodash.app.common import plain
from leukodash.jobs.doctor import examine


@st.fragment
def order_panel() -> None:
    """Offer the check of this installation. Its sentences name folders, which visitors and students should not see."""
    if settings.shared():
        return
    st.subheader("Is everything in order?")
    if not st.button("Check this installation", icon=":material/stethoscope:", key="examine"):
        st.caption("Python, packages, GPU, weights, disk, data, cache and runs. It takes a second.")
        return
    findings = examine()
    for finding in findings:
        icon = ":green[:material/check:]" if finding.fine else ":red[:material/close:]"
        st.markdown(f"{icon} **{finding.about}.** {plain(finding.words)}")
