import pytest

from leukodash.evaluation.published import LEAK_ALARM, PUBLISHED, published_table
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


def test_no_published_result_on_unseen_subjects_reaches_the_leak_alarm():
    assert max(row.value for row in PUBLISHED if row.split == "by subject") < LEAK_ALARM
