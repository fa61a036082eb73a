import pytest

pytestmark = pytest.mark.slow


def test_x(tiny_run):
    run = tiny_run()
    print(run.metrics, run.model["precision"], run.predictions)
