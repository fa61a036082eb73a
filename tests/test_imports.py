import numpy as np
import pytest
from made_runs import made_cells, made_run
from sklearn.metrics import accuracy_score, roc_auc_score

from leukodash.errors import RunError
from leukodash.runs import imported_predictions
from leukodash.runs.imported_predictions import MOST_ROWS, import_predictions, imported_runs, read_predictions, template
from leukodash.runs.leaderboard import backbone_of, compare_runs, leaderboard, test_groups
from leukodash.runs.run_folder import list_runs

test_groups.__test__ = False

GOOD = "file,label,p_all,p_hem\na.png,all,0.9,0.1\nb.png,hem,0.2,0.8\nc.png,all,0.4,0.6\n"


def read(text):
    return read_predictions(text.encode(), "mine.csv")


def test_files_are_read_as_test_cells_in_any_case_and_order_of_their_columns():
    table = read(GOOD)
    assert list(table.columns) == ["file", "label", "subject", "part", "p_all", "p_hem"]
    assert table["part"].unique().tolist() == ["test"]
    assert table["subject"].isna().all()
    assert table["p_all"].tolist() == [0.9, 0.2, 0.4]
    table = read("P_HEM,Label,P_ALL,File\n0.1,all,0.9,a.png\n")
    assert table.loc[0, ["file", "p_all", "p_hem"]].tolist() == ["a.png", 0.9, 0.1]
    rounded = read("file,label,p_a,p_b,p_c\nx,a,0.33,0.33,0.33\n")
    assert rounded.filter(like="p_").sum(axis=1).tolist() == [1.0]
    assert len(read("file,file,label,p_all,p_hem\na,b,all,0.9,0.1\n")) == 1  # pandas renames the second "file"


@pytest.mark.parametrize("truth", [("all", "hem"), ("1", "0"), ("1.0", "0.0")])
def test_one_probability_a_cell_is_that_of_a_blast(truth):
    table = read(f"path,y_true,prob\na.png,{truth[0]},0.9\nb.png,{truth[1]},0.2\n")
    assert table[["file", "label", "p_all", "p_hem"]].to_numpy().tolist() == [
        ["a.png", "all", 0.9, pytest.approx(0.1)],
        ["b.png", "hem", 0.2, 0.8],
    ]


def test_the_template_with_answers_filled_in_is_an_import_that_can_be_compared():
    run = made_run("vgg16")
    with pytest.raises(RunError, match="missing or not a number"):
        read(template([run]))
    filled = "\n".join(line + "0.9" * (number > 0) for number, line in enumerate(template([run]).splitlines()))
    own = import_predictions(filled.encode(), "mine.csv", like=[run])
    assert len(test_groups([own, run])) == 1
    assert own.metrics["sensitivity"] == 1


def test_predictions_for_several_test_sets_belong_to_the_largest_that_they_cover():
    small = made_run("vgg16", cells=made_cells(test=30))
    large = made_run("mobilenet", cells=made_cells(test=70))
    file = large.predictions.query("part == 'test'").drop(columns="part").to_csv(index=False).encode()
    assert import_predictions(file, "x.csv", like=[small, large]).test_set == large.test_set


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,y_true,prob\na,all,1.2\n", "outside 0 to 1"),
        ("path,y_true,prob\na,blast,0.2\n", "The columns are for all, hem"),
        ("", "not a CSV file"),
        ("\x00\x01\x02", "Expected file, label"),
        ("file,label,p_all,p_hem\n", "no rows"),
        ("file,p_all,p_hem\na,0.9,0.1\n", "no column 'label'"),
        ("label,p_all,p_hem\nall,0.9,0.1\n", "no column 'file'"),
        ("file,label,p_all\na,all,0.9\n", "for 1 classes"),
        ("file,label,p_all,p_hem\na,all,0.9,0.1\nb,hem,0.5,0.2\n", "Line 3 .* do not sum to one"),
        ("file,label,p_all,p_hem\na,blast,0.9,0.1\n", "Line 2 .* label without a column"),
        ("file,label,p_all,p_hem\na,all,,0.1\n", "Line 2 .* missing or not a number"),
        ("file,label,p_all,p_hem\na,all,nan,0.1\n", "missing or not a number"),
        ("file,label,p_all,p_hem\na,all,inf,0.1\n", "missing or not a number"),
        ("file,label,p_all,p_hem\na,all,high,0.1\n", "missing or not a number"),
        ("file,label,p_all,p_hem\na,all,1.4,-0.4\n", "outside 0 to 1"),
        ("file,label,p_all,p_hem\na,all,0.9,0.1\na,all,0.9,0.1\n", "Line 3 .* earlier line"),
        ("file,label,p_all,p_hem\n,all,0.9,0.1\n", "has no file"),
        ("file,label,p_all,p_hem\na,,0.9,0.1\n", "has no label"),
        ("file,label,part,p_all,p_hem\na,all,validation,0.9,0.1\n", "no test cells"),
        ("file,label,part,p_all,p_hem\na,all,holdout,0.9,0.1\n", "part other than"),
        ('file,label,p_all,p_hem\n"a,all,0.9,0.1\n', "not a CSV file"),
    ],
)
def test_each_fault_is_one_sentence(text, words):
    with pytest.raises(RunError, match=words) as caught:
        read(text)
    assert "\n" not in str(caught.value)


def test_a_file_in_another_encoding_and_one_of_a_million_rows_are_refused_in_a_sentence():
    with pytest.raises(RunError, match="UTF-8"):
        read_predictions("file,label,p_all,p_hem\nÄ,all,1,0\n".encode("latin-1"), "mine.csv")
    with pytest.raises(RunError, match=f"more than {MOST_ROWS:,} rows"):
        read("file,label,p_all,p_hem\n" + "".join(f"{i},all,1,0\n" for i in range(1_000_000)))


def test_an_import_is_matched_by_file_names_alone_and_cells_beyond_the_test_part_are_left_out():
    run = made_run("vgg16")
    table = run.predictions.drop(columns=["part", "subject"]).sample(frac=1, random_state=0)
    table["file"] = "C:\\data\\" + table["file"].str.rsplit("/", n=1).str[-1].str.replace(".png", ".bmp")
    own = import_predictions(table.to_csv(index=False).encode(), "torch.csv", backbone="resnet50", like=[run])
    assert (own.metrics["n"], own.metrics["accuracy"]) == (70, run.metrics["accuracy"])
    assert len(test_groups([own, run])) == 1
    comparison = compare_runs([own, run])
    assert np.allclose(comparison.scores("torch"), comparison.scores("VGG16"))
    assert comparison.subject_count == 7
    assert backbone_of(own) == "resnet50"


def test_labels_that_contradict_the_run_are_counted():
    run = made_run("vgg16")
    own = run.predictions[run.predictions["part"] == "test"].drop(columns="part")
    swapped = own.assign(label=own["label"].map({"all": "hem", "hem": "all"}))
    with pytest.raises(RunError, match="70 of the 70 test cells have another label"):
        import_predictions(swapped.to_csv(index=False).encode(), "x.csv", like=[run])


def test_other_cells_make_a_group_of_their_own_with_the_right_numbers():
    run = made_run("vgg16")
    own = import_predictions(GOOD.encode(), "mine.csv", title="Mine", owner="Ana", like=[run])
    again = import_predictions(GOOD.encode(), "mine2.csv", like=[run])
    assert [len(group.runs) for group in test_groups([again, own, run])] == [2, 1]
    truth, p = ["all", "hem", "all"], [0.9, 0.2, 0.4]
    assert own.metrics["accuracy"] == accuracy_score(truth, ["all" if x >= 0.5 else "hem" for x in p])
    assert own.metrics["roc_auc"] == roc_auc_score([1, 0, 1], p)
    assert leaderboard([own]).loc[0, ["title", "owner", "data"]].tolist() == ["Mine", "Ana", "imported"]


def test_an_import_is_listed_among_imports_only_and_the_subjects_of_its_file_are_used():
    text = "file,label,subject,p_all,p_hem\na.png,all,1,0.9,0.1\nb.png,hem,2,0.2,0.8\nc.png,all,1,0.4,0.6\n"
    own = import_predictions(text.encode(), "mine.csv")
    assert imported_runs() == [own]
    assert list_runs() == []
    assert (own.metrics["subjects"], own.metrics["interval_by"]) == (2, "subject")


def test_an_unknown_backbone_is_refused():
    with pytest.raises(RunError, match="no backbone 'resnet18'"):
        import_predictions(GOOD.encode(), "mine.csv", backbone="resnet18")


def test_a_class_a_cell_and_a_subject_may_be_called_like_a_missing_value():
    text = "file,label,subject,p_NA,p_null\nNone,NA,nan,0.9,0.1\nb,null,,0.2,0.8\n"
    run = import_predictions(text.encode(), "names.csv")
    for table in (read(text), run.predictions):
        assert table["file"].tolist() == ["None", "b"]
        assert table["label"].tolist() == ["NA", "null"]
        assert table["subject"].isna().tolist() == [False, True]
        assert table["subject"][0] == "nan"
    assert run.metrics["accuracy"] == 1
    assert len(compare_runs([run]).labels) == 2


def test_names_that_look_like_formulas_come_back_from_a_filled_in_template():
    cells = made_cells(test=4).assign(file=lambda table: "=" + table["file"], subject="@1")
    run = made_run("vgg16", cells=cells)
    lines = template([run]).splitlines()
    assert lines[1].startswith("'=")
    filled = "\n".join([lines[0], *(f"{line}0.9" for line in lines[1:])])
    assert len(test_groups([import_predictions(filled.encode(), "mine.csv", like=[run]), run])) == 1


def test_a_file_with_too_many_values_or_columns_is_refused_before_it_is_read(monkeypatch):
    monkeypatch.setattr(imported_predictions.pd, "read_csv", lambda *_, **__: pytest.fail("read"))
    with pytest.raises(RunError, match="more than 4,000,000 values"):
        read("file,label,p_a,p_b\n" + "," * 4_000_001)
    with pytest.raises(RunError, match="has more than 200 columns"):
        read("file,label,p_a,p_b" + ",x" * 200 + "\n")
    with pytest.raises(RunError, match="is over 64 MB"):
        read("x" * (64 * 2**20 + 1))
