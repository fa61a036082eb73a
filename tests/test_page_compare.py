import pandas as pd
import pytest
from made_runs import made_cells, made_run
from streamlit.testing.v1 import AppTest

from leukodash.runs.imported_predictions import import_predictions, imported_runs


def page(**query):
    at = AppTest.from_file("../streamlit_app.py", default_timeout=30).switch_page("pages/compare.py")
    for key, value in query.items():
        at.query_params[key] = value
    return at.run()


def texts(at):
    return [element.value for kind in ("markdown", "caption", "warning", "info", "error") for element in at.get(kind)]


def headline(at):
    return next(text for text in texts(at) if text.startswith("### "))


def test_without_a_run_the_page_links_to_training():
    at = AppTest.from_file("../streamlit_app.py", default_timeout=60)
    at.switch_page("pages/compare.py").run()
    assert not at.exception
    assert "No finished run yet" in at.info[0].value
    assert len(at.get("plotly_chart")) == 1


def test_the_newest_run_of_each_backbone_is_compared_and_the_verdict_comes_first():
    made_run("vgg16", seed=1, when="20260101-100000")
    made_run("mobilenet", seed=2, when="20260101-110000")
    made_run("mobilenet", seed=3, when="20260101-120000")
    at = page()
    assert not at.exception
    assert at.multiselect[0].value == ["20260101-120000-mobilenet-0003", "20260101-100000-vgg16-0001"]
    assert "of 7 subjects" in headline(at)
    assert any("Only 7 test subjects" in text for text in texts(at))


def test_the_table_has_counts_intervals_and_marks():
    made_run("vgg16", p_all=[0.9 if i % 7 % 2 == 0 else 0.1 for i in range(110)], metrics={"leaks": 3})
    at = page()
    row = at.dataframe[0].value.iloc[0]
    assert row["right"] == "70 of 70"
    assert row["wilson"] == "94.8–100.0"
    assert row["marks"] == "3 leaks between parts"


def test_chosen_runs_are_in_the_address_and_a_link_brings_them_back():
    first = made_run("vgg16", seed=1, when="20260101-100000")
    made_run("mobilenet", seed=2, when="20260101-110000")
    at = page(runs=first.id)
    assert at.multiselect[0].value == [first.id]
    assert headline(at).startswith("### VGG16 classifies")
    at.multiselect[0].set_value(["20260101-110000-mobilenet-0002"]).run()
    assert at.query_params["runs"] == "20260101-110000-mobilenet-0002"
    assert headline(at).startswith("### MobileNet classifies")


def test_a_link_to_a_run_of_another_test_set_opens_that_group():
    other = made_run("vgg16", cells=made_cells(test=30), when="20260101-100000")
    made_run("mobilenet", when="20260101-110000")
    at = page(runs=other.id)
    assert at.multiselect[0].options == ["VGG16"]
    assert at.multiselect[0].value == [other.id]


def test_test_groups_with_equal_labels_can_all_be_opened():
    cells = made_cells()
    made_run("vgg16", cells=cells, when="20260101-100000")
    made_run("mobilenet", cells=cells.assign(sha256=cells["sha256"].str[::-1]), when="20260101-110000")
    at = page()
    groups = at.selectbox(key="group")
    assert len(set(groups.options)) == 2
    opened = []
    for option in groups.options:
        at.selectbox(key="group").select(option).run()
        assert not at.exception
        opened += at.multiselect[0].options
    assert set(opened) == {"VGG16", "MobileNet"}


def test_a_link_to_a_run_that_is_gone_falls_back_to_the_newest():
    run = made_run("vgg16")
    assert page(runs="20200101-000000-vgg16-dead").multiselect[0].value == [run.id]


def test_no_chosen_run_asks_for_one():
    made_run("vgg16")
    at = page()
    at.multiselect[0].set_value([]).run()
    assert not at.exception
    assert "Choose a run" in at.info[0].value


def test_damaged_predictions_are_one_sentence():
    run = made_run("vgg16")
    (run.path / "predictions.csv").write_text("file,label\n")
    at = page()
    assert not at.exception
    assert "no readable predictions" in at.error[0].value


@pytest.mark.parametrize("rule", ["fixed", "youden", "sensitivity"])
def test_a_threshold_moves_everything(rule):
    made_run("vgg16", seed=1, skill=0.6, bias=1.7)
    before = page()
    after = page()
    after.segmented_control(key="rule").set_value(rule).run()
    if rule == "fixed":
        after.slider(key="at").set_value(0.9).run()
    assert not after.exception
    assert headline(before) != headline(after)
    assert before.dataframe[0].value["sensitivity"][0] != after.dataframe[0].value["sensitivity"][0]


TABS = ["Training", "Paired tests", "ROC and PR", "Calibration", "Decision curve", "By subject", "Published"]


@pytest.mark.parametrize("tab", TABS)
def test_each_tab_shows_something_and_says_it_in_words(tab):
    for seed, backbone in enumerate(("vgg16", "mobilenet", "resnet50")):
        made_run(backbone, seed=seed)
    at = page(tab=tab)
    assert not at.exception
    assert not at.error
    opened = next(element for element in at.tabs if element.label == tab)
    charts = opened.get("plotly_chart")
    assert charts or opened.dataframe
    assert all(chart.proto.alt for chart in charts)


def test_without_subjects_the_page_says_so():
    made_run("vgg16", cells=made_cells().assign(subject=None))
    made_run("mobilenet", seed=1, cells=made_cells().assign(subject=None))
    at = page(tab="By subject")
    assert not at.exception
    assert any("are unknown" in text for text in texts(at))
    assert any("Wilson's" in text for text in texts(at))


def test_the_pair_that_is_chosen_is_the_pair_that_is_tested():
    for seed, backbone in enumerate(("vgg16", "mobilenet", "resnet50")):
        made_run(backbone, seed=seed)
    at = page(tab="Paired tests")
    at.selectbox(key="first").set_value("ResNet50").run()
    at.selectbox(key="second").set_value("VGG16").run()
    table = next(text for text in texts(at) if text.startswith("| cells |"))
    assert "VGG16 correct" in table
    assert "**ResNet50 correct**" in table


def made_pair():
    first = made_run("vgg16", seed=1, about={"owner": "Ana"})
    return first, made_run("mobilenet", seed=2, skill=0.4, about={"owner": "Ben"})


def test_all_runs_can_be_filtered_by_owner():
    first, _ = made_pair()
    made_run("vgg16", seed=5, when="20250101-100000")
    at = page()
    at.segmented_control(key="table-of").set_value("all").run()
    assert len(at.dataframe[0].value) == 3
    at.multiselect(key="of-owner").set_value(["Ana"]).run()
    assert at.dataframe[0].value["run"].tolist() == [first.id]


def test_every_view_of_the_table_is_a_csv_too():
    made_pair()
    at = page()
    for view in ("chosen", "all", "seeds"):
        at.segmented_control(key="table-of").set_value(view).run()
        assert not at.exception
        assert len(at.dataframe[0].value) == 2
        assert at.get("download_button")


def test_intervals_of_all_measures_can_be_shown():
    made_pair()
    at = page()
    at.toggle(key="intervals").set_value(True).run()
    assert not at.exception
    assert "–" in at.dataframe[0].value["sensitivity"][0]


@pytest.mark.parametrize("kind", ["Matrix entry", "Worst mistakes", "Disagreements"])
def test_cells_whose_images_are_gone_are_named(kind):
    made_pair()
    at = page()
    at.segmented_control(key="cells").set_value(kind).run()
    assert not at.exception
    assert any("not on this machine" in text for text in texts(at))


def test_the_cells_of_a_square_are_as_many_as_it_counts():
    made_pair()
    at = page()
    at.selectbox(key="cells-run").set_value("MobileNet").run()
    at.selectbox(key="cells-truth").set_value("hem").run()
    at.selectbox(key="cells-called").set_value("all").run()
    table = at.dataframe[0].value.set_index("name")
    counted = table.loc["MobileNet", "confusion"][1][0]
    assert any(text.startswith(f"**{counted} normal cells that MobileNet predicts as ALL blast") for text in texts(at))


def test_the_average_of_runs_is_a_row_of_its_own():
    made_pair()
    at = page(average="true")
    assert not at.exception
    assert "Average of the runs" in at.dataframe[0].value["name"].tolist()


def test_baselines_without_the_images_say_why():
    made_pair()
    at = page(baselines="true")
    assert not at.exception
    assert any("No baselines" in warning.value for warning in at.warning)


def test_a_network_no_better_than_area_is_called_so():
    made_run("vgg16", metrics={"area_auc": 0.999, "roc_auc": 0.9})
    assert any("nothing but size was learnt" in text for text in texts(page()))


def test_imported_predictions_stand_beside_the_runs():
    run, _ = made_pair()
    tested = run.predictions[run.predictions["part"] == "test"].drop(columns="part")
    own = import_predictions(tested.to_csv(index=False).encode(), "torch.csv", like=[run])
    at = page()
    assert not at.exception
    assert own.id in at.multiselect[0].value
    assert "torch" in at.dataframe[0].value["name"].tolist()


def test_a_file_is_imported_and_chosen_at_once_and_a_faulty_one_gets_a_sentence():
    run, _ = made_pair()
    tested = run.predictions[run.predictions["part"] == "test"].drop(columns="part")
    at = page()
    at.file_uploader(key="import").upload("bad.csv", b"file,label\n", "text/csv").run()
    at.button(key="import-go").click().run()
    assert not at.exception
    assert "bad" in at.error[0].value
    at.file_uploader(key="import").upload("torch.csv", tested.to_csv(index=False).encode(), "text/csv").run()
    at.button(key="import-go").click().run()
    assert not at.exception
    assert "torch" in at.dataframe[0].value["name"].tolist()


def test_a_report_and_a_model_card_are_offered():
    made_pair()
    at = page()
    assert [button.label for button in at.get("download_button")] == ["CSV", "Report", "Download"]


def test_runs_with_other_marks_are_marked_by_name():
    made_run("vgg16", seed=1, metrics={"leaks": 2})
    made_run("mobilenet", seed=2)
    said = next(text for text in texts(page()) if "badge" in text)
    assert "VGG16" in said
    assert "2 leaks" in said


def test_an_imported_run_can_be_deleted():
    run, _ = made_pair()
    tested = run.predictions[run.predictions["part"] == "test"].drop(columns="part")
    import_predictions(tested.to_csv(index=False).encode(), "torch.csv", like=[run])
    at = page()
    at.button(key="import-delete").click().run()
    assert not at.exception
    assert "torch" not in at.dataframe[0].value["name"].tolist()
    assert imported_runs() == []


def test_runs_that_learnt_from_fewer_cells_draw_a_learning_curve():
    cells = made_cells(validation=40, test=70)
    train = made_cells(validation=60, test=0, root="more").assign(part="train")
    made_run("vgg16", seed=1, cells=pd.concat([cells, train]))
    made_run("vgg16", seed=2, cells=pd.concat([cells, train.iloc[:20]]), when="20260101-100000")
    at = page(tab="Learning curve", runs="20260101-120000-vgg16-0001,20260101-100000-vgg16-0002")
    assert not at.exception
    opened = next(element for element in at.tabs if element.label == "Learning curve")
    assert "with 20 cells" in opened.get("plotly_chart")[0].proto.alt


def test_runs_of_one_size_say_how_to_get_a_learning_curve():
    made_pair()
    at = page(tab="Learning curve")
    assert any("train again" in info.value for info in at.info)
