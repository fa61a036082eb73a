"""Export of the trained network: created in a separate process, checked, and offered for download."""

import streamlit as st

from leukodash.app.common import choose_one, plain
from leukodash.app.sign_in import current_actor
from leukodash.app.sign_in_form import refused
from leukodash.errors import LeukoDashError
from leukodash.export.export_formats import FORMATS, NOTICE
from leukodash.export.export_jobs import Job, job_status, start_export
from leukodash.export.model_export import CHECKED_CELLS, Exported
from leukodash.runs.access import refusal
from leukodash.runs.leaderboard import run_names
from leukodash.runs.run_folder import Run

MAX_DOWNLOAD = 300_000_000  # bytes, since downloads pass through the server's memory
ACTIVE = ("waiting", "running")


def export_part(runs: list[Run]) -> None:
    """Offer the networks of finished runs as files; polls while one is being created."""
    names = {run.id: plain(name) for name, run in run_names(runs).items()}
    st.markdown(
        "A trained network as one file for other programs: RGB values in, probabilities out, preprocessing included. "
        f"Each file is tested on {CHECKED_CELLS} cells, and offered only if it gives the app's probabilities."
    )
    by_id = {run.id: run for run in runs}
    run = runs[0] if len(runs) == 1 else by_id[choose_one("Network", names, f"export-{'-'.join(by_id)}")]
    if words := refusal(current_actor(), "export", run):
        refused(words, "export")
        return
    polling = any(job_status(run, format).state in ACTIVE for format in FORMATS)
    st.fragment(_formats, run_every="1s" if polling else None)(run, polling)
    st.caption(f"{NOTICE} Each file contains this notice, its classes, its threshold and its origin.")


def _formats(run: Run, polling: bool) -> None:
    """Show one card per format. Runs as a fragment."""
    jobs = {format: job_status(run, format) for format in FORMATS}
    if polling and not any(job.state in ACTIVE for job in jobs.values()):
        st.rerun(scope="app")  # stop polling
    for column, (format, job) in zip(st.columns(len(jobs)), jobs.items(), strict=True):
        with column.container(border=True, height="stretch"):
            kind = FORMATS[format]
            st.markdown(f"**{kind.title}** :gray[{plain(kind.suffix)}]  \n:small[For {plain(kind.one_line)}.]")
            _card(run, format, job)


def _card(run: Run, format: str, job: Job) -> None:
    if job.state in ACTIVE:
        st.progress(job.fraction, plain(job.words))
        return
    if job.exported:
        _offer(run, format, job.exported)
        return
    if job.state == "failed":
        st.error(plain(job.words), icon=":material/error:")
    label = "Try again" if job.state == "failed" else "Create the file"
    if st.button(label, key=f"export-{run.id}-{format}", icon=":material/deployed_code:"):
        try:
            start_export(run, format, current_actor())
        except LeukoDashError as error:
            st.error(plain(str(error)), icon=":material/error:")
        else:
            st.rerun(scope="app")  # start polling


def _offer(run: Run, format: str, exported: Exported) -> None:
    path, size = exported.path, exported.path.stat().st_size
    if size > MAX_DOWNLOAD:
        st.markdown(
            f"Ready, but too large to download ({size / 1e6:,.0f} MB). On the machine that runs the app: "
            f"`python -m leukodash export {run.id} --format {format} --output .`"
        )
    else:
        st.download_button(
            f"Download ({size / 1e6:,.1f} MB)", path.read_bytes, path.name, "application/octet-stream",
            key=f"download-{run.id}-{format}", icon=":material/download:", on_click="ignore",
        )  # fmt: skip
    st.markdown(f":small[:material/check: {plain(exported.words)}]")
