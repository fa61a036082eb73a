import re

import pandas as pd
import pytest
from apptest import open_page, texts, widget
from made_runs import made_cells, made_run, publish

from leukodash.app.compare.choice import link_problem
from leukodash.app.compare.run_picker import MAX_RUNS, board_of, search, ticked_now
from leukodash.inference.decision import decision
from leukodash.runs.imported_predictions import imported_runs

PERFECT = [0.9 if i % 7 % 2 == 0 else 0.1 for i in range(110)]


def headline(at):
    return next(line for line in texts(at).splitlines() if line.startswith("### "))


def table(at):
    """Return the first table of the page by the names of its runs."""
    return at.dataframe[0].value.set_index("name")


def names(at):
    return list(table(at).index)


def made_pair():
    first = made_run("vgg16", seed=1, about={"owner": "Ana"}, config={"seed": 0})
    return first, made_run("mobilenet", seed=2, skill=0.4, about={"owner": "Ben"}, config={"seed": 0})


def test_without_a_run_the_page_links_to_training_and_checks_a_paper():
    at = open_page("compare")
    assert "No finished run yet" in at.info[0].value
    assert len(at.get("plotly_chart")) == 1
    assert "64 of 70: the accuracy may be anything from 82.5% to 96.0%" in texts(at)


def test_a_paper_is_checked_by_its_address_and_a_wrong_result_gets_a_sentence():
    made_run("vgg16")
    at = open_page("compare", tab="Published", paper="0.95 of 1867", **{"paper-split": "by subject"})
    assert "1,774 of 1,867" in texts(at)
    assert "Look for a leak" in texts(at)
    at.text_input(key="paper").set_value("71 of 70").run()
    assert "more than all of 70 cells" in at.error[0].value
    at.text_input(key="paper").set_value("36 of 70").run()
    assert "**can be told apart** from VGG16, Dhuri & Guinde 2020" in texts(at)
    at.selectbox(key="paper-metric").set_value("f1_weighted").run()
    assert len(widget(at.tabs, "Published").get("plotly_chart")) == 0


def test_the_newest_run_of_each_backbone_is_compared_with_counts_intervals_and_marks():
    made_run("vgg16", seed=1, p_all=PERFECT, metrics={"leaks": 3}, when="20260101-100000")
    made_run("mobilenet", seed=2, when="20260101-110000")
    made_run(
        "mobilenet",
        seed=3,
        metrics={"stratified_auc": 0.5, "stratified_auc_interval": [0.4, 0.6]},
        when="20260101-120000",
    )
    at = open_page("compare")
    assert at.title[0].value == "Compare"
    assert at.pills(key="question").value == "own"
    assert sorted(names(at)) == ["MobileNet · seed 3", "VGG16 · seed 1"]
    assert "of 7 subjects" in headline(at)
    assert "Only 7 test subjects" in texts(at)
    assert "MobileNet · seed 3 (0.50, 95%: 0.40 to 0.60)" in texts(at)
    assert table(at)["stratified_auc"].to_dict() == {"VGG16 · seed 1": "", "MobileNet · seed 3": "0.500 (0.400–0.600)"}
    assert re.search(r"\[VGG16 · seed 1\].*3 leaks", texts(at))
    row = table(at).loc["VGG16 · seed 1"]
    assert (row["right"], row["wilson"], row["marks"]) == ("70 of 70", "94.8%–100.0%", "3 leaks between parts")
    assert {"CSV", "Report", "Download", "Template"} == {button.label for button in at.get("download_button")}


def test_a_link_opens_exactly_its_runs_and_a_question_takes_their_place_in_the_address():
    first = made_run("vgg16", when="20260101-100000")
    made_run("mobilenet", when="20260101-110000")
    at = open_page("compare", runs=first.id)
    assert names(at) == ["VGG16"]
    assert headline(at).startswith("### VGG16 classifies")
    at.pills(key="question").set_value("own").run()
    assert at.query_params["question"] == "own" and "runs" not in at.query_params
    assert sorted(names(at)) == ["MobileNet", "VGG16"]


def test_opening_the_page_adds_nothing_to_the_address_and_going_back_undoes_the_last_choice():
    made_pair()
    at = open_page("compare")
    assert not at.query_params
    at.query_params["runs"] = made_run("resnet50").id
    at.run()
    assert names(at) == ["ResNet50"]
    at.query_params.clear()  # the browser's Back
    at.run()
    assert len(names(at)) == 3


def test_a_wrong_link_gets_a_sentence():
    run = made_run("vgg16")
    at = open_page("compare", runs=f"20200101-000000-vgg16-dead,{run.id}")
    assert "1 of the 2 runs of this link are not here" in at.warning[0].value.replace("\\", "")
    assert names(at) == ["VGG16"]
    assert "A question is shown in their place" in open_page("compare", runs="dead").warning[0].value.replace("\\", "")
    assert "no question 'x'" in link_problem([], [], "x", {"own": 1})
    assert f"At most {MAX_RUNS}" in link_problem([str(i) for i in range(20)], [str(i) for i in range(20)], None, {})
    assert link_problem([run.id], [run.id], None, {}) == ""


def test_runs_that_were_tested_on_different_cells_stand_side_by_side_without_a_test():
    other = made_run("vgg16", cells=made_cells(test=30), when="20260101-100000")
    run = made_run("mobilenet", when="20260101-110000")
    at = open_page("compare", runs=f"{other.id},{run.id}")
    assert "tested on different cells (1 on 70 cells and 1 on 30 cells)" in texts(at)
    assert table(at)["n"].to_dict() == {"MobileNet": 70, "VGG16": 30}
    assert "VGG16" in at.get("plotly_chart")[0].proto.alt
    assert not at.tabs
    assert names(open_page("compare", runs=other.id)) == ["VGG16"]


def test_the_table_of_all_runs_is_searched_by_words_and_ticks_outlive_a_search():
    mine = made_run("vgg16", about={"owner": "Ana"}, config={"split": {"kind": "fold", "test_fold": 1}})
    (theirs,) = publish(made_run("mobilenet", seed=7, config={"seed": 7}))
    board = board_of([mine, theirs])
    assert board["owner"].tolist() == ["Ana", "published"]
    assert board["interval"].str.fullmatch(r"\d+\.\d%–\d+\.\d%").all()
    assert search(board, "ana FOLD 1")["run"].tolist() == [mine.id]
    assert search(board, "seed 7 mobilenet")["run"].tolist() == [theirs.id]
    assert search(board, "ana mobilenet").empty
    assert ticked_now(["a", "b", "c"], ["b", "d"], [1]) == ["a", "c", "d"]
    at = open_page("compare")
    at.button(key="choose").click().run()
    assert at.button(key="compare").label == "Compare 1 run"


def test_damaged_predictions_are_one_sentence():
    (made_run("vgg16").path / "predictions.csv").write_text("file,label\n")
    assert "1 damaged run is left out" in texts(open_page("compare"))


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


TABS = ["Paired tests", "Mistakes", "Training", "ROC and PR", "Calibration", "Decision curve", "Published"]


@pytest.mark.parametrize("tab", TABS)
def test_each_tab_shows_something_and_says_it_in_words(tab):
    for seed, backbone in enumerate(("vgg16", "mobilenet", "resnet50")):
        made_run(backbone, seed=seed, config={"seed": 0})
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


def test_the_measure_of_the_tests_moves_headline_and_ranks_and_stays_with_other_tabs():
    made_pair()
    at = open_page("compare", tab="Paired tests")
    assert "accuracy" in headline(at)
    at.segmented_control(key="measure").set_value("roc_auc").run()
    assert "ROC AUC" in headline(at)
    assert "Difference in ROC AUC" in texts(at) and "McNemar" not in texts(at)
    at.session_state["tab"] = "Mistakes"
    at.run()
    assert at.get("plotly_chart")[-1].proto.alt.startswith("Confusion") and "ROC AUC" in headline(at)
    assert "weighted F1" in headline(open_page("compare", tab="Mistakes", measure="weighted F1"))


def test_predictive_values_and_decision_curve_follow_the_share_of_blasts():
    made_pair()
    at = open_page("compare", tab="Decision curve")
    here = next(slider for slider in at.slider if slider.key.startswith("prevalence"))

    def of(name):
        return widget(at.tabs, "Decision curve").dataframe[0].value.set_index("name").loc["VGG16", name]

    before = [float(of(name).split("%")[0]) for name in ("ppv", "npv")]
    assert here.value == pytest.approx(100 * 40 / 70, abs=0.1)
    here.set_value(1.0).run()
    after = [float(of(name).split("%")[0]) for name in ("ppv", "npv")]
    assert after[0] < before[0] and after[1] > before[1]
    assert "at 1.0% ALL blast" in texts(at)


def test_people_are_counted_for_each_run_and_shown_for_one_of_them():
    made_pair()
    at = open_page("compare")
    people = at.dataframe[1].value.set_index("run")
    assert re.fullmatch(r"\d of 7 \(\d+–\d+%\)", people.loc["VGG16", "people right"])
    assert "7 people, each called by the share of their cells; split by subject" in texts(at)
    first, other = at.selectbox(key="person-run").options
    assert f"{people.loc[first, 'people right'].partition(' (')[0]} people right" in texts(at)
    at.selectbox(key="person-run").set_value(other).run()
    assert f"{people.loc[other, 'people right'].partition(' (')[0]} people right" in texts(at)
    assert "no people were held out" in texts(at)


def test_nobody_with_cells_of_two_classes_gets_a_verdict():
    made_run(cells=made_cells().assign(subject=lambda cells: (cells.index // 2 % 9).astype(str)))
    assert "nobody has one true class" in texts(open_page("compare"))


def test_calibration_is_shown_before_and_after_the_temperature_of_each_run():
    sure = made_run("vgg16", skill=0.3, seed=1, config={"seed": 0})  # by far too sure
    made_run("mobilenet", seed=2, p_all=[0.7 - 0.4 * (i % 7 % 2) for i in range(110)], config={"seed": 0})
    at = open_page("compare", tab="Calibration")
    rows = widget(at.tabs, "Calibration").dataframe[0].value.set_index("run")
    assert float(rows.loc["VGG16", "temperature"]) > 1 == float(rows.loc["MobileNet", "temperature"])
    assert re.fullmatch(r"[\d.]+ → [\d.]+ \([−+][\d.]+ to [−+][\d.]+\)", rows.loc["VGG16", "log loss"])
    assert re.fullmatch(r"[\d.]+", rows.loc["MobileNet", "log loss"])
    assert "VGG16: probabilities calibrated by a temperature of" in texts(at)
    assert "MobileNet: probabilities left as they are: not overconfident" in texts(at)
    temperature = decision(sure).temperature
    assert f"{temperature.value:.2f}" == rows.loc["VGG16", "temperature"]  # the classify page's
    given = widget(at.tabs, "Calibration").get("plotly_chart")[0].proto.alt
    at.segmented_control(key="reliability-of").set_value("calibrated").run()
    assert widget(at.tabs, "Calibration").get("plotly_chart")[0].proto.alt != given


def test_without_subjects_the_page_says_so():
    for backbone in ("vgg16", "mobilenet"):
        made_run(backbone, cells=made_cells().assign(subject=None))
    said = texts(open_page("compare"))
    assert "are unknown" in said and "Wilson's" in said


def test_seeds_are_put_together_only_where_there_are_several_and_more_columns_show_all_intervals():
    made_pair()
    assert not any(group.key == "table-of" for group in open_page("compare").segmented_control)
    made_run("vgg16", seed=5, when="20250101-100000", config={"seed": 5, "split": {"seed": 5}})
    at = open_page("compare", **{"table-of": "Seeds together"})
    assert at.dataframe[0].value["seeds"].tolist() == [2]
    at.segmented_control(key="table-of").set_value("chosen").run()
    few = len(at.dataframe[0].proto.column_order)
    assert 1 < few <= 9
    at.toggle(key="more").set_value(True).run()
    assert len(at.dataframe[0].proto.column_order) > 2 * few
    assert "%–" in table(at)["sensitivity"].iloc[0]


def test_the_cells_of_a_square_are_as_many_as_it_counts_and_those_without_images_are_named():
    made_pair()
    at = open_page("compare", tab="Mistakes")
    for kind in ("Worst mistakes", "Disagreements", "Matrix entry"):
        at.segmented_control(key="cells").set_value(kind).run()
        assert any("not on this machine" in expander.label for expander in at.expander)
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
    assert imported_runs()[0].id in at.query_params["runs"]
    assert "torch" in names(open_page("compare"))
    at.button(key="import-delete").click().run()
    assert not at.exception
    assert "torch" not in table(at).index
    assert imported_runs() == [] and not at.warning[1:]


def test_a_file_about_other_cells_than_those_on_screen_is_compared_with_the_runs_of_its_cells():
    cells = made_cells(test=30, root="others")
    other = made_run("vgg16", cells=cells, when="20260101-100000", about={"title": "Theirs"})
    made_run("mobilenet", when="20260101-110000", cells=made_cells(root="mine", test=90))
    tested = cells[cells["part"] == "test"]
    file = pd.DataFrame({"path": tested["file"], "y_true": (tested["label"] == "all").astype(int), "prob": 0.7})
    at = open_page("compare")
    assert names(at) == ["MobileNet"]
    at.file_uploader(key="import").upload("torch.csv", file.to_csv(index=False).encode(), "text/csv").run()
    at.button(key="import-go").click().run()
    assert sorted(names(at)) == ["Theirs", "torch"]
    assert table(at).loc["torch", "n"] == len(other.predictions.query("part == 'test'"))


def test_runs_that_learnt_from_fewer_cells_draw_a_learning_curve_and_others_say_how_to_get_one():
    cells = made_cells()
    train = made_cells(validation=60, test=0, root="more").assign(part="train")
    runs = [made_run("vgg16", seed=seed, cells=pd.concat([cells, train[:count]])) for seed, count in ((1, 60), (2, 20))]
    at = open_page("compare", tab="Learning curve", runs=",".join(run.id for run in runs))
    assert "with 20 cells" in widget(at.tabs, "Learning curve").get("plotly_chart")[0].proto.alt
    at = open_page("compare", tab="Learning curve", runs=runs[0].id)
    assert any("train again" in info.value for info in at.info)
