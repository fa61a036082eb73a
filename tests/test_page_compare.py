import re

import pandas as pd
import pytest
from apptest import open_page, texts, widget
from made_runs import made_cells, made_run

from leukodash.runs.imported_predictions import imported_runs

PERFECT = [0.9 if i % 7 % 2 == 0 else 0.1 for i in range(110)]


def headline(at):
    return next(line for line in texts(at).splitlines() if line.startswith("### "))


def table(at):
    """Return the first table of the page by the names of its runs."""
    return at.dataframe[0].value.set_index("name")


def made_pair():
    first = made_run("vgg16", seed=1, about={"owner": "Ana"})
    return first, made_run("mobilenet", seed=2, skill=0.4, about={"owner": "Ben"})


def test_without_a_run_the_page_links_to_training():
    at = open_page("compare")
    assert "No finished run yet" in at.info[0].value
    assert len(at.get("plotly_chart")) == 1


def test_the_newest_run_of_each_backbone_is_compared_with_counts_intervals_and_marks():
    made_run("vgg16", seed=1, p_all=PERFECT, metrics={"leaks": 3}, when="20260101-100000")
    made_run("mobilenet", seed=2, when="20260101-110000")
    made_run("mobilenet", seed=3, metrics={"area_auc": 0.999, "roc_auc": 0.9}, when="20260101-120000")
    at = open_page("compare")
    assert at.multiselect[0].value == ["20260101-120000-mobilenet-0003", "20260101-100000-vgg16-0001"]
    assert "of 7 subjects" in headline(at)
    assert "Only 7 test subjects" in texts(at)
    assert "nothing but size was learnt" in texts(at)
    assert re.search(r"\[VGG16\].*3 leaks", texts(at))
    row = table(at).loc["VGG16"]
    assert (row["right"], row["wilson"], row["marks"]) == ("70 of 70", "94.8–100.0", "3 leaks between parts")
    assert [button.label for button in at.get("download_button")] == ["CSV", "Report", "Download"]


def test_chosen_runs_are_in_the_address_and_a_link_brings_them_back():
    first = made_run("vgg16", seed=1, when="20260101-100000")
    second = made_run("mobilenet", seed=2, when="20260101-110000")
    at = open_page("compare", runs=first.id)
    assert at.multiselect[0].value == [first.id]
    assert headline(at).startswith("### VGG16 classifies")
    at.multiselect[0].set_value([second.id]).run()
    assert at.query_params["runs"] == second.id
    assert headline(at).startswith("### MobileNet classifies")
    at.multiselect[0].set_value([]).run()
    assert "Choose a run" in texts(at)
    assert open_page("compare", runs="20200101-000000-vgg16-dead").multiselect[0].value == [second.id, first.id]


def test_a_link_to_a_run_of_another_test_set_opens_that_group():
    other = made_run("vgg16", cells=made_cells(test=30), when="20260101-100000")
    made_run("mobilenet", when="20260101-110000")
    at = open_page("compare", runs=other.id)
    assert at.multiselect[0].options == ["VGG16"]
    assert at.multiselect[0].value == [other.id]


def test_test_groups_with_equal_labels_can_all_be_opened():
    cells = made_cells()
    made_run("vgg16", cells=cells, when="20260101-100000")
    made_run("mobilenet", cells=cells.assign(sha256=cells["sha256"].str[::-1]), when="20260101-110000")
    at = open_page("compare")
    groups = at.selectbox(key="group")
    assert len(set(groups.options)) == 2
    opened = []
    for option in groups.options:
        at.selectbox(key="group").select(option).run()
        assert not at.exception
        opened += at.multiselect[0].options
    assert set(opened) == {"VGG16", "MobileNet"}


def test_damaged_predictions_are_one_sentence():
    (made_run("vgg16").path / "predictions.csv").write_text("file,label\n")
    assert "no readable predictions" in open_page("compare").error[0].value


def test_each_threshold_moves_everything():
    made_run("vgg16", seed=1, skill=0.6, bias=1.7)
    at = open_page("compare")
    before, sensitivity = headline(at), table(at)["sensitivity"].iloc[0]
    for rule in ("youden", "sensitivity", "fixed"):
        at.segmented_control(key="rule").set_value(rule).run()
        if rule == "fixed":
            at.slider(key="at").set_value(0.9).run()
        assert headline(at) != before
        assert table(at)["sensitivity"].iloc[0] != sensitivity


TABS = ["Training", "Paired tests", "ROC and PR", "Calibration", "Decision curve", "By subject", "Published"]


@pytest.mark.parametrize("tab", TABS)
def test_each_tab_shows_something_and_says_it_in_words(tab):
    for seed, backbone in enumerate(("vgg16", "mobilenet", "resnet50")):
        made_run(backbone, seed=seed)
    at = open_page("compare", tab=tab)
    assert not at.error
    opened = widget(at.tabs, tab)
    charts = opened.get("plotly_chart")
    assert charts or opened.dataframe
    assert all(chart.proto.alt for chart in charts)
    if tab == "Paired tests":  # the pair that is chosen is the pair that is tested
        at.selectbox(key="first").set_value("ResNet50").run()
        at.selectbox(key="second").set_value("VGG16").run()
        header = next(line for line in texts(at).splitlines() if line.startswith("| cells |"))
        assert "VGG16 correct" in header
        assert "**ResNet50 correct**" in texts(at)


def test_without_subjects_the_page_says_so():
    for backbone in ("vgg16", "mobilenet"):
        made_run(backbone, cells=made_cells().assign(subject=None))
    said = texts(open_page("compare", tab="By subject"))
    assert "are unknown" in said and "Wilson's" in said


def test_every_view_of_the_table_is_a_csv_and_can_be_filtered_by_owner_or_show_intervals():
    first, _ = made_pair()
    made_run("vgg16", seed=5, when="20250101-100000")
    at = open_page("compare")
    for view, rows in (("seeds", 2), ("chosen", 2), ("all", 3)):
        at.segmented_control(key="table-of").set_value(view).run()
        assert not at.exception
        assert len(at.dataframe[0].value) == rows
        assert at.get("download_button")
    at.multiselect(key="of-owner").set_value(["Ana"]).run()
    assert at.dataframe[0].value["run"].tolist() == [first.id]
    at.segmented_control(key="table-of").set_value("chosen").run()
    at.toggle(key="intervals").set_value(True).run()
    assert "–" in table(at)["sensitivity"].iloc[0]


def test_the_cells_of_a_square_are_as_many_as_it_counts_and_those_without_images_are_named():
    made_pair()
    at = open_page("compare")
    for kind in ("Worst mistakes", "Disagreements", "Matrix entry"):
        at.segmented_control(key="cells").set_value(kind).run()
        assert "not on this machine" in texts(at)
    for key, value in (("run", "MobileNet"), ("truth", "hem"), ("called", "all")):
        at.selectbox(key=f"cells-{key}").set_value(value).run()
    counted = table(at).loc["MobileNet", "confusion"][1][0]
    assert f"**{counted} normal cells that MobileNet predicts as ALL blast" in texts(at)


def test_the_average_of_runs_is_a_row_of_its_own_and_baselines_without_images_say_why():
    made_pair()
    at = open_page("compare", average="true", baselines="true")
    assert "Average of the runs" in table(at).index
    assert any("No baselines" in warning.value for warning in at.warning)


def test_a_file_is_imported_and_chosen_at_once_until_it_is_deleted_and_a_faulty_one_gets_a_sentence():
    run, _ = made_pair()
    tested = run.predictions[run.predictions["part"] == "test"].drop(columns="part")
    at = open_page("compare")
    for name, content in (("bad.csv", b"file,label\n"), ("torch.csv", tested.to_csv(index=False).encode())):
        at.file_uploader(key="import").upload(name, content, "text/csv").run()
        at.button(key="import-go").click().run()
        assert not at.exception
        assert ("bad" in at.error[0].value) if name == "bad.csv" else ("torch" in table(at).index)
    again = open_page("compare")
    assert imported_runs()[0].id in again.multiselect[0].value
    assert "torch" in table(again).index
    at.button(key="import-delete").click().run()
    assert not at.exception
    assert "torch" not in table(at).index
    assert imported_runs() == []


def test_runs_that_learnt_from_fewer_cells_draw_a_learning_curve_and_others_say_how_to_get_one():
    cells = made_cells()
    train = made_cells(validation=60, test=0, root="more").assign(part="train")
    runs = [made_run("vgg16", seed=seed, cells=pd.concat([cells, train[:count]])) for seed, count in ((1, 60), (2, 20))]
    at = open_page("compare", tab="Learning curve", runs=",".join(run.id for run in runs))
    assert "with 20 cells" in widget(at.tabs, "Learning curve").get("plotly_chart")[0].proto.alt
    at.multiselect[0].set_value([runs[0].id]).run()
    assert any("train again" in info.value for info in at.info)
