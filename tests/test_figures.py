import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from sklearn.metrics import average_precision_score, precision_score, recall_score, roc_auc_score

from leukodash.evaluation.differences import all_pairs
from leukodash.evaluation.metrics import net_benefit, reliability
from leukodash.evaluation.published import published_table
from leukodash.figures.accuracy_charts import confusion_figure, forest_figure, pairs_figure, subject_figure
from leukodash.figures.probability_curves import decision_figure, pr_figure, reliability_figure, roc_figure
from leukodash.figures.theme import (
    OTHER_COLOR,
    OTHER_SYMBOL,
    PUBLISHED_GREY,
    TRAIN_DASH,
    VALIDATION_DASH,
    alt_text,
    color,
    symbol,
    symbols,
)
from leukodash.figures.training_curves import example_figure, history_figure, rates_figure
from leukodash.models.backbones import BACKBONES

COLUMNS = ["epoch", "loss", "accuracy", "val_loss", "val_accuracy"]
BACKBONE_OF = {"MobileNet": "mobilenet", "VGG16": "vgg16"}


def history(epochs):
    e = np.arange(1, epochs + 1)
    # The validation loss is lowest in epoch 3; the validation accuracy keeps increasing.
    return pd.DataFrame(
        {"epoch": e, "loss": 1 / e, "accuracy": 1 - 0.5 / e, "val_loss": 0.4 + 0.1 * abs(e - 3), "val_accuracy": e / 10}
    )


def scores(seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.random(2000) < 0.6
    return truth, np.clip(rng.normal(0.4 + 0.2 * truth, 0.2), 0, 1)


def steps(last, per_epoch=10):
    step = np.arange(1, last + 1)
    return pd.DataFrame({"step": step, "epoch": (step - 1) // per_epoch + 1, "loss": 1 / step, "accuracy": 0.5})


def forest_rows():
    table = published_table().query("metric == 'accuracy'").rename(columns={"network": "name", "value": "accuracy"})
    own = {"name": "mine", "backbone": "vgg16", "accuracy": 0.9, "low": 0.8, "high": 0.95, "n": 1867}
    return pd.concat([table.assign(published=True), pd.DataFrame([own | {"published": False}])])


def subject_rows():
    subjects = pd.DataFrame(
        {"subject": ["1", "2", "H3"], "label": ["ALL blast", "ALL blast", "normal"], "n": [100, 25, 4]}
    )
    accuracy = {"MobileNet": [0.9, 1.0, 0.5], "VGG16": [0.8, 1.0, 0.25]}
    return pd.concat([subjects.assign(name=name, accuracy=of) for name, of in accuracy.items()], ignore_index=True)


def pairs():
    image = np.arange(200)
    return all_pairs(pd.DataFrame({"MobileNet": image < 180, "VGG16": image < 179, "ResNet50": image < 100}))


TRUTH, P = scores()
TABLE = reliability(np.maximum(P, 1 - P), (P >= 0.5) == TRUTH)
RUNS = {"MobileNet": (TRUTH, P), "VGG16": scores(1)}
FIGURES = {  # every figure, with data and, where possible, without
    "history": history_figure({"MobileNet": history(5)}, "loss", BACKBONE_OF),
    "history, empty": history_figure({"MobileNet": pd.DataFrame(columns=COLUMNS)}, "accuracy", BACKBONE_OF),
    "history, example": example_figure("loss"),
    "forest": forest_figure(forest_rows()),
    "forest, empty": forest_figure(forest_rows().head(0)),
    "confusion": confusion_figure(np.array([[33, 2], [3, 32]]), ["ALL blast", "normal"]),
    "roc": roc_figure(RUNS, BACKBONE_OF),
    "roc, empty": roc_figure({}, {}),
    "pr": pr_figure(RUNS, BACKBONE_OF),
    "reliability": reliability_figure({"MobileNet": TABLE}, BACKBONE_OF),
    "reliability, empty": reliability_figure({}, {}),
    "decision": decision_figure({"MobileNet": net_benefit(TRUTH, P)}, BACKBONE_OF),
    "decision, empty": decision_figure({}, {}),
    "subject": subject_figure(subject_rows(), BACKBONE_OF),
    "subject, empty": subject_figure(subject_rows().head(0), BACKBONE_OF),
    "pairs": pairs_figure(pairs()),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_has_alt_text_a_height_and_a_transparent_background(name):
    figure = FIGURES[name]
    assert alt_text(figure).endswith(".")
    assert len(alt_text(figure)) > 20
    assert "nan" not in alt_text(figure).lower()
    assert figure.layout.height > 100
    assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0, 0, 0, 0)"
    assert figure.layout.font.color is None
    assert go.Figure(figure.to_dict()) == figure  # every attribute is valid and serializable


def test_every_backbone_has_its_own_color_and_symbol_and_two_runs_of_one_have_different_symbols():
    for style in (color, symbol):
        assert len({style(name) for name in (*BACKBONES, None)}) == len(BACKBONES) + 1
    assert PUBLISHED_GREY not in map(color, BACKBONES)
    assert (color("an imported network"), symbol(None)) == (OTHER_COLOR, OTHER_SYMBOL)
    assert len(set(symbols({"first": "vgg16", "second": "vgg16", "other": "resnet50"}).values())) == 3


def trace(figure, name):
    return next(t for t in figure.data if t.name == name)


def test_training_is_dotted_validation_solid_and_both_have_symbols():
    figure = history_figure({"MobileNet": history(5)}, "accuracy", BACKBONE_OF)
    training, validation = trace(figure, "MobileNet, training"), trace(figure, "MobileNet")
    assert (training.line.dash, validation.line.dash) == (TRAIN_DASH, VALIDATION_DASH)
    assert training.line.color == validation.line.color == color("mobilenet")
    assert list(validation.y) == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert "markers" in training.mode
    assert validation.marker.symbol == symbol("mobilenet")


@pytest.mark.parametrize(("metric", "value"), [("loss", 0.4), ("accuracy", 0.3)])
def test_the_ring_marks_the_epoch_whose_weights_are_kept(metric, value):
    ring = trace(history_figure({"MobileNet": history(6)}, metric, BACKBONE_OF), "MobileNet, best epoch")
    assert (ring.x[0], ring.y[0]) == (3, pytest.approx(value))


def test_a_diverged_run_is_drawn_as_far_as_it_has_finite_values_and_does_not_flatten_the_other_curves():
    broken = history(4).assign(loss=np.nan, val_loss=np.nan, val_accuracy=0.5)
    assert alt_text(history_figure({"MobileNet": broken}, "loss", BACKBONE_OF)).endswith("No finished epoch yet.")
    assert len(trace(history_figure({"MobileNet": broken}, "accuracy", BACKBONE_OF), "MobileNet").x) == 4
    away = history(4).assign(loss=[2.0, 1e3, 1e9, 6e14])
    figure = history_figure({"MobileNet": history(4), "VGG16": away}, "loss", BACKBONE_OF)
    assert figure.layout.yaxis.range == (0, 5)
    assert "loss up to 5" in figure.layout.yaxis.title.text
    nothing = history(4).assign(loss=np.inf, val_loss=np.inf)
    for calm in ({"VGG16": nothing}, {}, {"VGG16": history(2)}):
        assert history_figure({"MobileNet": history(4), **calm}, "loss", BACKBONE_OF).layout.yaxis.range is None
    assert history_figure({"VGG16": away}, "loss", BACKBONE_OF).layout.yaxis.range is None


def test_zoom_survives_new_epochs_but_not_an_empty_figure_and_is_not_shared_by_loss_and_accuracy():
    empty, *shown = (history_figure({"MobileNet": history(n)} if n else {}, "loss", BACKBONE_OF) for n in (0, 1, 3, 4))
    assert empty.layout.xaxis.range == (0, 20)
    zooms = {figure.layout.uirevision for figure in shown}
    assert len(zooms) == 1
    assert zooms.isdisjoint(
        {empty.layout.uirevision, history_figure({"x": history(3)}, "accuracy", {}).layout.uirevision}
    )
    assert {figure.layout.height for figure in shown} == {empty.layout.height}


def test_the_axis_of_a_live_run_spans_all_planned_epochs_from_the_first_point_to_the_last():
    figures = [history_figure({"MobileNet": history(n)}, "loss", BACKBONE_OF, planned=50) for n in (1, 40)]
    assert {figure.layout.xaxis.range for figure in figures} == {(0, 51)}
    assert len({figure.layout.uirevision for figure in figures}) == 1
    over = history_figure({"MobileNet": history(40)}, "loss", BACKBONE_OF)
    assert over.layout.xaxis.range is None
    assert over.layout.uirevision != figures[0].layout.uirevision  # else the browser would keep the range


def test_the_suggested_learning_rate_is_labeled_at_its_line():
    figure = rates_figure(pd.DataFrame({"rate": [1e-4, 1e-3], "loss": [1, 2], "smooth": [1, 2]}), 1e-3, "vgg16")
    (line,), (label,) = figure.layout.shapes, figure.layout.annotations
    assert (line.x0, label.x, label.text) == (1e-3, -3, "0.001")  # on a log axis, labels are placed at the logarithm


def test_steps_grow_the_curve_before_the_first_epoch_ends_and_after_the_last_and_an_epoch_without_them_is_a_point():
    figure = history_figure({"MobileNet": history(2)}, "loss", BACKBONE_OF, {"MobileNet": steps(25)})
    assert list(trace(figure, "MobileNet, training").x) == pytest.approx([1, 2, 2.1, 2.2, 2.3, 2.4, 2.5])
    empty = pd.DataFrame(columns=COLUMNS)
    (curve,) = history_figure({"MobileNet": empty}, "loss", BACKBONE_OF, {"MobileNet": steps(7)}).data
    assert len(curve.x) == 7
    assert curve.showlegend
    single = history_figure({"MobileNet": history(1)}, "loss", BACKBONE_OF)
    assert all(len(t.x) == 1 and "markers" in t.mode for t in single.data)


def test_the_forest_shows_published_rows_in_open_gray_at_the_bottom():
    figure = forest_figure(forest_rows())
    own, paper = trace(figure, "mine"), trace(figure, "VGG16")
    assert own.y[0] == 0
    assert figure.layout.yaxis.ticktext[0] == "mine"
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1]  # 0 on top
    assert figure.layout.yaxis.zeroline is False  # it would cross out the first row
    assert own.marker.color == color("vgg16")
    assert (paper.marker.color, paper.marker.symbol) == (PUBLISHED_GREY, "square-open")
    low, high = paper.x[0] - paper.error_x.arrayminus[0], paper.x[0] + paper.error_x.array[0]
    assert (round(low, 3), round(high, 3)) == (0.843, 0.969)
    assert "mine 90.0% (80.0 to 95.0) of 1,867 images" in alt_text(figure)
    figure = forest_figure(forest_rows().tail(1).assign(low=np.nan, high=np.nan))  # no interval
    assert figure.data[0].error_x.visible is False
    assert "mine 90.0% of 1,867" in alt_text(figure)


def test_long_names_stand_on_lines_that_leave_room_on_a_phone():
    rows = pd.concat(
        [forest_rows().tail(1).assign(name="own preprocessing, batch norm frozen, learning rate 0.001")] * 9
    )
    figure = forest_figure(rows)
    assert max(map(len, figure.layout.yaxis.ticktext[0].split("<br>"))) <= 26
    assert figure.layout.height > forest_figure(rows.assign(name="short")).layout.height


@pytest.mark.parametrize(
    ("normalise", "shares"),
    [
        ("truth", ["94.3%", "5.7%", "8.6%", "91.4%"]),
        ("prediction", ["91.7%", "5.9%", "8.3%", "94.1%"]),
        ("all", ["47.1%", "2.9%", "4.3%", "45.7%"]),
    ],
)
def test_a_confusion_matrix_has_counts_percentages_and_clickable_squares(normalise, shares):
    figure = confusion_figure(np.array([[33, 2], [3, 32]]), ["ALL blast", "normal"], normalise)
    squares = figure.data[1]
    assert [text.split("<br>") for text in squares.text] == [
        [f"<b>{n}</b>", share] for n, share in zip([33, 2, 3, 32], shares, strict=True)
    ]
    assert [tuple(pair) for pair in squares.customdata][1] == ("ALL blast", "normal")
    assert (squares.x[1], squares.y[1]) == ("normal", "ALL blast")  # x predicted, y truth
    assert f"ALL blast predicted as normal: 2 ({shares[1]})" in alt_text(figure)
    empty_class = confusion_figure(np.array([[5, 0], [0, 0]]), ["ALL blast", "normal"], normalise)
    assert empty_class.data[1].text[3] == "<b>0</b><br>0.0%"


def test_the_areas_of_the_curves_agree_with_scikit_learn():
    curve = FIGURES["roc"].data[0]
    assert f"AUC {roc_auc_score(TRUTH, P):.3f}" in curve.name
    assert f"AP {average_precision_score(TRUTH, P):.3f}" in FIGURES["pr"].data[0].name
    assert len(curve.x) <= 400
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(roc_auc_score(TRUTH, P), abs=0.002)


@pytest.mark.parametrize("threshold", [0.0, 0.37, 1.0])
def test_a_threshold_is_marked_at_its_sensitivity(threshold):
    called, name, runs = threshold <= P, f"MobileNet at {threshold:.2f}", {"MobileNet": (TRUTH, P)}
    point = trace(roc_figure(runs, BACKBONE_OF, {"MobileNet": threshold}), name)
    assert point.y[0] == pytest.approx(recall_score(TRUTH, called), abs=0.005)
    assert 1 - point.x[0] == pytest.approx(recall_score(~TRUTH, ~called), abs=0.005)
    point = trace(pr_figure(runs, BACKBONE_OF, {"MobileNet": threshold}), name)
    assert point.x[0] == pytest.approx(recall_score(TRUTH, called))
    assert point.y[0] == pytest.approx(precision_score(TRUTH, called, zero_division=1))


def test_the_reliability_diagram_draws_its_table():
    drawn = trace(FIGURES["reliability"], "MobileNet")
    assert list(drawn.y) == pytest.approx(TABLE["accuracy"].tolist())
    assert list(drawn.y + drawn.error_y.array) == pytest.approx(TABLE["accuracy_high"].tolist())


def test_subjects_are_sorted_worst_first_and_sized_by_their_images():
    figure = FIGURES["subject"]
    first = figure.data[0]
    assert list(first.x) == ["H3 (normal)", "1 (ALL blast)", "2 (ALL blast)"]
    assert list(figure.layout.xaxis.categoryarray) == list(first.x)
    assert first.marker.size[1] > first.marker.size[2] > first.marker.size[0]
    assert "Lowest on average: H3, 1, 2" in alt_text(figure)


def test_pairs_show_which_runs_differ_significantly():
    texts = dict(zip(map(tuple, FIGURES["pairs"].data[1].customdata), FIGURES["pairs"].data[1].text, strict=True))
    assert texts["MobileNet", "VGG16"] == "= +0.5<br>p 1.00"
    assert texts["VGG16", "MobileNet"] == "= -0.5<br>p 1.00"
    assert texts["MobileNet", "ResNet50"] == "≠ +40.0<br>p < 0.001"
    assert "MobileNet and ResNet50" in alt_text(FIGURES["pairs"])
    assert "MobileNet and VGG16" not in alt_text(FIGURES["pairs"])
