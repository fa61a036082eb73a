"""The trained network as a file: made in a process of its own, checked, and then offered."""

import streamlit as st

from leukodash.app.common import plain
from leukodash.errors import LeukoDashError
from leukodash.export.export_formats import FORMATS, NOTICE
from leukodash.export.export_jobs import Job, job_status, start_export
from leukodash.export.model_export import CHECKED_CELLS
from leukodash.jobs.live_status import curve_names
from leukodash.runs.run_folder import Run

LARGEST_DOWNLOAD = 300_000_000  # bytes: what is downloaded passes through the memory of the server
UNDER_WAY = ("waiting", "running")


def export_part(runs: list[Run]) -> None:
    """Offer the networks of finished runs as files, polling while one is being made."""
    names = {run.id: name for name, run in curve_names(runs).items()}
    st.markdown(
        "A trained network as one file for other programs: RGB values in, probabilities out, preprocessing inside. "
        f"Each file is run on {CHECKED_CELLS} cells here, and offered only if it gives what the app gives."
    )
    by_id = {run.id: run for run in runs}
    chosen = next(iter(by_id))
    if len(runs) > 1:
        chosen = st.segmented_control(
            "Network", list(by_id), default=chosen, required=True, key=f"export-{'-'.join(by_id)}",
            format_func=names.get,
        )  # fmt: skip
    run = by_id[chosen]
    working = any(job_status(run, format).state in UNDER_WAY for format in FORMATS)
    st.fragment(_formats, run_every="1s" if working else None)(run, working)
    st.caption(f"{NOTICE} Each file says so too, with its classes, its threshold and where it comes from.")


def _formats(run: Run, working: bool) -> None:
    """One card a format. Runs as a fragment."""
    jobs = {format: job_status(run, format) for format in FORMATS}
    if working and not any(job.state in UNDER_WAY for job in jobs.values()):
        st.rerun(scope="app")  # nothing to poll for any more
    for column, (format, job) in zip(st.columns(len(jobs)), jobs.items(), strict=True):
        with column.container(border=True, height="stretch"):
            kind = FORMATS[format]
            st.markdown(f"**{kind.title}** :gray[{plain(kind.suffix)}]  \n:small[For {plain(kind.one_line)}.]")
            _card(run, format, job)


def _card(run: Run, format: str, job: Job) -> None:
    if job.state in UNDER_WAY:
        st.progress(job.fraction, plain(job.words))
        return
    if job.state == "ready":
        _offer(run, format, job)
        return
    if job.state == "failed":
        st.error(plain(job.words), icon=":material/error:")
    label = "Try again" if job.state == "failed" else "Make the file"
    if st.button(label, key=f"export-{run.id}-{format}", icon=":material/deployed_code:"):
        try:
            start_export(run, format)
        except LeukoDashError as error:
            st.error(plain(str(error)), icon=":material/error:")
        else:
            st.rerun(scope="app")  # polls from now on


def _offer(run: Run, format: str, job: Job) -> None:
    path = job.exported.path
    size = path.stat().st_size
    if size > LARGEST_DOWNLOAD:
        st.markdown(
            f"Ready, but its {size / 1e6:,.0f} MB are too much for a download. On the machine of the app: "
            f"`python -m leukodash export {run.id} --format {format} --output .`"
        )
    else:
        st.download_button(
            f"Download ({size / 1e6:,.1f} MB)",
            path.read_bytes,
            path.name,
            "application/octet-stream",
            key=f"download-{run.id}-{format}",
            icon=":material/download:",
            on_click="ignore",
        )
    st.markdown(f":small[:material/check: {plain(job.exported.words)}]")
