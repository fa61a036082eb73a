"""The app as a person meets it: pages in Chromium. Its server is `benchmarks.server.Server`."""

SIZES = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}


def settled(page):
    """Wait until Streamlit has stopped running the script and everything stands."""
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
    page.wait_for_function("() => !document.querySelector('[data-testid=stSkeleton]')")
    page.wait_for_timeout(1200)
