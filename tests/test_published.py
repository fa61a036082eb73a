import pytest

from leukodash.evaluation.published import LEAK_ALARM, OTHERS, PUBLISHED, published_table
from leukodash.models.backbones import BACKBONES


def rows_of(paper, network):
    return next(row for row in PUBLISHED if row.paper == paper and row.network == network)


@pytest.mark.parametrize(
    ("paper", "network", "percent", "low", "high"),
    [
        ("Dhuri & Guinde", "VGG16", 92.9, 84.3, 96.9),
        ("Dhuri & Guinde", "MobileNet", 91.4, 82.5, 96.0),
        ("Dhuri & Guinde", "ResNet50", 51.4, 40.0, 62.8),
        ("Mamaev", "ResNet50, best epoch", 85.6, 82.7, 87.9),
        ("Mamaev", "VGG16, best epoch", 85.1, 82.3, 87.5),
    ],
)
def test_published_numbers_and_intervals(paper, network, percent, low, high):
    row = rows_of(paper, network)
    found = [round(100 * number, 1) for number in (row.value, *row.interval)]
    assert found == [percent, low, high]


def test_counts_agree_with_the_published_percentage():
    for row in PUBLISHED:
        assert row.metric != "accuracy" or row.k / row.n == pytest.approx(row.value, abs=0.5 / row.n + 1e-9), row


def test_every_backbone_key_is_one_of_ours():
    assert {row.backbone for row in PUBLISHED} - {None} <= set(BACKBONES)


def test_counts_derived_from_a_percentage_are_noted():
    assert all("percentage" in row.note for row in PUBLISHED if row.paper == "Mamaev")


def test_the_table_has_an_interval_for_every_count_and_none_for_f1():
    table = published_table()
    assert len(table) == len(PUBLISHED)
    assert (table["low"].notna() == table["k"].notna()).all()
    counted = table.dropna(subset="low")
    assert ((counted["low"] < counted["value"]) & (counted["value"] < counted["high"])).all()
    assert table.loc[table["metric"] == "f1_weighted", "value"].tolist() == [0.925, 0.91]


def test_no_published_f1_on_unseen_subjects_reaches_the_leak_alarm_and_what_does_was_chosen_on_its_test_cells():
    unseen = [row for row in (*PUBLISHED, *OTHERS) if row.split == "by subject"]
    assert max(row.value for row in unseen if row.metric == "f1_weighted") < LEAK_ALARM
    assert all("chosen on it" in row.note for row in unseen if row.metric != "roc_auc" and row.value > LEAK_ALARM)


def test_the_table_of_others_says_where_the_split_is_not_as_stated_and_leaves_out_what_is_not_known():
    table = published_table(OTHERS).set_index("paper")
    assert table.loc["Braga & Dantas", ["stated", "split", "source"]].tolist() == [
        "by subject", "by image", "arXiv 2601.01026"
    ]  # fmt: skip
    assert table["value"].isna().sum() == 1
    assert table["low"].isna().all()
    assert set(table.loc[table["split"] == "by subject", "n"]) == {1867, 2586}
