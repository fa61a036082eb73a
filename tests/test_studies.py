"""Studies: which runs they ask for, how those are found again, and the page that is made from them."""

import shutil
from unittest.mock import Mock
from xml.etree import ElementTree

import pandas as pd
import pytest
from made_runs import made_cells, made_run

from leukodash import settings
from leukodash.__main__ import main
from leukodash.config.presets import PRESETS
from leukodash.data.dataset import load_dataset
from leukodash.data.demo_cells import make_demo
from leukodash.errors import RunError
from leukodash.evaluation.published import PUBLISHED
from leukodash.models.backbones import BACKBONES
from leukodash.runs.migrations import stored_config
from leukodash.runs.published_runs import MARK
from leukodash.runs.run_folder import Run, create_run, list_runs, published_runs
from leukodash.studies import answers
from leukodash.studies import catalogue as studies
from leukodash.studies.catalogue import STUDIES, Study, StudyRun, configs, done, find_matching_run, record_study_run
from leukodash.studies.results_page import results_page, together


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_demo(tmp_path_factory.mktemp("data") / "demo", cells=400, subjects=12)


@pytest.fixture
def small(monkeypatch):
    """A study of one run, in place of all others."""
    asked = StudyRun("as published", "mobilenet", "dhuri-guinde-2020", cpu_overrides={"epochs": 3})
    monkeypatch.setattr(studies, "STUDIES", {"small": Study("Small", "Does it work?", (asked,))})
    monkeypatch.setattr("leukodash.studies.results_page.STUDIES", studies.STUDIES)
    return asked


def test_every_study_fits_a_data_set_of_c_nmcs_layout_and_a_balanced_split_trains_on_what_there_is(folder):
    for study in STUDIES.values():
        for asked, whole, smaller in configs(study, folder):
            assert whole.backbone == smaller.backbone == asked.backbone
            assert (whole == smaller) == (not asked.cpu_overrides)
    _, whole, smaller = configs(STUDIES["dhuri-guinde"], folder)[0]
    rarer = load_dataset(folder).cells["label"].value_counts().min()
    assert whole.split.counts == smaller.split.counts == (2 * rarer - 140, 70, 70)


def test_a_run_is_found_by_its_settings_whatever_it_is_called_and_the_finished_one_first(folder, small):
    ((_, whole, smaller),) = configs(studies.STUDIES["small"], folder)
    assert find_matching_run(smaller, list_runs()) is None
    begun = create_run(smaller.changed(data="/elsewhere", preset="quick"), title="my own")
    assert find_matching_run(smaller, list_runs()) == begun
    assert find_matching_run(whole, list_runs()) is None
    finished = made_run(config=smaller.model_dump())
    assert find_matching_run(smaller, [begun, finished]) == finished


def test_the_command_trains_what_is_missing_once_and_writes_what_came_out(folder, small, monkeypatch, tmp_path, capsys):
    started, page = [], tmp_path / "results.md"

    def start(config, *_, **__):
        started.append(made_run(config=config.model_dump(), cells=made_cells(test=70)))
        return started[-1]

    monkeypatch.setattr("leukodash.jobs.launch.start", start)
    (settings.checkpoints() / "broken").mkdir(parents=True)
    (settings.checkpoints() / "broken" / "config.json").write_text("{")
    assert main(["study", "--write", str(page)]) == 2
    assert "study --data DIR" in capsys.readouterr().err
    for _ in range(2):
        assert main(["study", "--data", str(folder), "--write", str(page)]) == 0
    (run,) = started
    assert [one.run for one in done()["small"]] == [run]
    text = page.read_text()
    assert f"{run.metrics['accuracy']:.1%}" in text
    assert "MobileNet, as published: epochs 3, not 100." in text
    assert main(["study"]) == 0
    assert "Does it work?" in capsys.readouterr().out


def test_a_run_that_fails_keeps_no_other_study_from_being_trained(folder, small, monkeypatch):
    studies.STUDIES["another"] = studies.STUDIES["small"]
    watch = Mock(side_effect=RunError("It failed."))
    monkeypatch.setattr("leukodash.jobs.launch.start", lambda config, *_, **__: create_run(config))
    monkeypatch.setattr("leukodash.jobs.launch.resume", lambda run, *_: run)
    monkeypatch.setattr("leukodash.cli.study_commands.watch", watch)
    assert main(["study", "--data", str(folder)]) == 2
    assert watch.call_count == 2


def answers_for(name, label, *runs):
    for run in runs:
        record_study_run(name, StudyRun(label, run.config.backbone), run.config, run.config, run)


def rows_with(words):
    return [line for line in results_page(done())[0].splitlines() if words in line]


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """Return a function that moves all runs of studies to the published ones, by the command."""

    def move():
        assert main(["study", "--share", str(tmp_path / "shared"), "--write", str(tmp_path / "page.md")]) == 0
        shutil.rmtree(settings.checkpoints())
        monkeypatch.setenv("LEUKODASH_PUBLISHED", str(tmp_path / "shared"))

    return move


def test_runs_of_one_label_stand_in_one_row_with_each_cell_and_each_mark_counted_once():
    marks = [{"leaks": leaks, "random_start": True} for leaks in (30, 38)]
    runs = [made_run(seed=seed, skill=0.4, metrics=metrics) for seed, metrics in enumerate(marks)]
    answers_for("dhuri-guinde", "as published", *runs)
    cells = together(runs)
    assert len(cells) == 70
    shares = [run.metrics["accuracy"] for run in runs]
    assert cells["right"].mean() == pytest.approx(sum(shares) / 2)
    (row,) = rows_with("| as published |")
    assert f"| 2 | 0 | 4 | 70 cells of 7 subjects | {cells['right'].mean():.1%} |" in row
    assert f"{min(shares):.1%} to {max(shares):.1%}" in row
    assert "split by subject (random start, 30 to 38 leaks between parts)" in row


def test_printed_numbers_and_what_is_done_otherwise_here_stand_beside_the_networks_of_a_paper_that_were_run():
    answers_for("dhuri-guinde", "as published", made_run())
    answers_for("mamaev", "as published", made_run("resnet50", seed=1))
    answers_for("resnet50", "as published", made_run("resnet50", seed=1, when="20260102-120000"))
    text = results_page(done())[0]
    assert "| MobileNet | **printed by Dhuri & Guinde (2020)** |" in text
    assert "91.4% | 82.5% to 96.0%" in text
    assert "| VGG16 |" not in text
    assert f"1 of its {len(STUDIES['dhuri-guinde'].runs)} runs have finished." in text
    assert "Studies without results yet: Unseen" in text
    parts = {part.partition("\n")[0]: part for part in text.split("\n## ")}
    for line in PRESETS["mamaev-2023"].differences:
        assert f"- {line}" in parts["Mamaev 2023, as published"]
    assert "Left open by the paper" not in parts["Why ResNet50 was at chance"]


def test_what_a_split_by_image_flatters_is_counted_on_cells_that_both_have_tested():
    cells = made_cells(validation=40, test=400, subjects=20)
    answers_for("honest", "by image", made_run(cells=cells, skill=2.0, seed=1))
    answers_for("honest", "five folds of subjects", made_run(cells=cells, skill=0.5, seed=2))
    one, other = (run.run.metrics["accuracy"] for run in done()["honest"])
    said, row = rows_with("points")
    assert said.startswith(f"**Yes: split by image, the network looks better, by {100 * (one - other):.1f} points.** ")
    assert f"| {100 * (one - other):+.1f} points |" in row
    assert "400 of 20 subjects" in row


def test_a_study_forgets_runs_on_other_cells_and_runs_that_were_deleted():
    runs = [made_run(config={"fingerprint": cells * 64}, seed=number) for number, cells in enumerate("aab")]
    answers_for("honest", "by image", *runs)
    assert [row.run for row in done()["honest"]] == runs[2:]
    for run in runs:
        (run.path / "metrics.json").unlink()
    assert done() == {}


def test_networks_are_averaged_cell_by_cell():
    truth = [1.0 if label == "all" else 0.0 for label in made_cells()["label"]]
    sure = made_run(p_all=[0.9 * one + 0.05 for one in truth], seed=1)
    wrong = made_run("vgg16", p_all=[0.6 - 0.2 * one for one in truth], seed=2)
    answers_for("honest", "fold 0 → fold 1", sure, wrong)
    (row,) = rows_with("averaged")
    assert "| 2 |" in row
    assert "| 70 cells of 7 subjects | 100.0% |" in row
    assert "all averaged, fold 0 → fold 1" in results_page(done())[1]["honest.svg"]


def test_figures_are_svg_with_every_share_in_its_place_and_its_name():
    low, high = (made_run(seed=seed, skill=skill) for seed, skill in ((0, 0.2), (1, 2.0)))
    for run, label in ((low, "low & slow"), (high, "high")):
        answers_for("dhuri-guinde", label, run)
    page, figures = results_page(done(), "pictures")
    assert "(pictures/dhuri-guinde.svg)" in page
    drawn = ElementTree.fromstring(figures["dhuri-guinde.svg"])
    words = [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {"MobileNet, low & slow", f"{low.metrics['accuracy']:.1%}", "MobileNet, printed"} <= set(words)
    circles = [float(circle.get("cx")) for circle in drawn.iter("{http://www.w3.org/2000/svg}circle")]
    assert len(circles) == 3
    assert circles[0] < circles[1]


def test_shared_runs_are_small_tell_nothing_of_the_machine_and_make_the_same_page(tmp_path, monkeypatch):
    small, large = made_run(seed=0), made_run("vgg16", seed=1)
    small.weights.write_bytes(bytes(100))
    large.weights.write_bytes(bytes(studies.MOST_WEIGHTS + 1))
    (small.path / "log.txt").write_text("/nowhere")
    small.write("model.json", small.model | {"config": stored_config(small.config)})
    second = made_run(seed=2)  # of a recipe that one run speaks for already
    second.weights.write_bytes(bytes(100))
    answers_for("dhuri-guinde", "as published", small, large, second)
    page, there = results_page(done()), tmp_path / "shared"
    assert studies.share(there) == sum(path.stat().st_size for path in there.iterdir())
    archive = (there / "dhuri-guinde.tar.xz").read_bytes()
    studies.share(there)
    assert (there / "dhuri-guinde.tar.xz").read_bytes() == archive
    monkeypatch.setenv("LEUKODASH_PUBLISHED", str(there))
    kept = {run.id: run for run in published_runs()}
    assert kept[small.id].split.equals(small.split)
    assert kept[small.id].predictions.equals(small.predictions)
    assert [run.weights.is_file() for run in (kept[small.id], kept[large.id], kept[second.id])] == [True, False, False]
    assert b"nowhere" not in b"".join(path.read_bytes() for path in kept[small.id].path.iterdir())
    shutil.rmtree(settings.checkpoints())
    assert results_page(done()) == page
    alone = Run(shutil.copytree(kept[small.id].path, tmp_path / "copied" / small.id))  # without the table of its cells
    (tmp_path / "copied" / MARK).touch()
    assert alone.split.empty
    assert "sha256" in kept[small.id].split


def test_a_study_has_the_users_runs_beside_the_published_ones_on_the_same_cells(publish):
    def answers():
        return [row.run.id[-4:] for row in done()["honest"]]

    answers_for("honest", "by image", made_run(seed=0))
    publish()
    answers_for("honest", "by image", made_run(seed=1))
    assert answers() == ["0001", "0000"]
    answers_for("honest", "by image", done()["honest"][1].run)  # as `study --data` does for a run that is there
    assert answers() == ["0001", "0000"]
    answers_for("honest", "by image", made_run(seed=2, config={"fingerprint": "b" * 64}))
    assert answers() == ["0002"]


def test_a_run_of_two_studies_is_published_and_counted_once(publish, tmp_path, capsys):
    run = made_run()
    answers_for("honest", "fold 0 → fold 1", run)
    answers_for("best", "classes weighted alike", run)
    publish()
    assert [row.run for name in ("honest", "best") for row in done()[name]] == published_runs() * 2
    assert "\n1 runs on real cells" in results_page(done())[0]
    assert "0.0 MB" in capsys.readouterr().out
    assert (tmp_path / "shared" / "studies.json").is_file()
    assert (tmp_path / "page" / "honest.svg").is_file()


def found(label, accuracy, low, high, backbone="mobilenet", *, runs=1, one_class=False):
    """A row of `answers`: the recipe of a network, with its accuracy in percent."""
    shares = {"accuracy": accuracy / 100, "low": low / 100, "high": high / 100}
    single = {"runs": runs, "lowest": accuracy / 100 - 0.05, "highest": accuracy / 100 + 0.05, "one_class": one_class}
    return {"network": BACKBONES[backbone].title, "backbone": backbone, "label": label} | shares | single


def printed_by(paper):
    return [row for row in PUBLISHED if row.paper == paper]


@pytest.mark.parametrize(
    ("rows", "lead", "part"),
    [
        (
            [found("as published", 80.2, 74.8, 84.6, runs=10), found("as published", 50, 23, 77, "resnet50")],
            "In part: 1 of 2 results come again.",
            "MobileNet, printed 91.4%, found 80.2% (74.8% to 84.6%), single draws 75.2% to 85.2%: different",
        ),
        (
            [found("as published", 80.2, 74.8, 84.6), found("every layer trained", 90, 80, 96)],
            "No: 0 of 1 results come again.",
            "MobileNet, every layer trained, printed 91.4%, found 90.0% (80.0% to 96.0%): no difference shown",
        ),
        ([found("as published", 88, 80, 94)], "Yes: 1 of 1 results come again.", "no difference shown"),
        (
            [found("as published", 50, 23, 77, "vgg16", one_class=True)],  # a wide interval is no excuse
            "No: 0 of 1 results come again.",
            "VGG16, printed 92.9%, found 50.0% (23.0% to 77.0%), the same answer for every cell: different",
        ),
    ],
)
def test_a_printed_number_comes_again_unless_the_interval_of_the_difference_leaves_out_zero(rows, lead, part):
    said = answers.repeated(pd.DataFrame(rows), printed_by("Dhuri & Guinde"))
    assert said.startswith(lead)
    assert part in said


@pytest.mark.parametrize(
    ("preprocessing", "batchnorm", "both", "words"),
    [
        ((62, 76), (36, 72), (71, 83), "One change is enough to leave chance, its own preprocessing: "),
        ((45, 55), (52, 72), (71, 83), "One change is enough to leave chance, batch normalization left alone: "),
        ((62, 76), (52, 72), (71, 83), "Either of two changes is enough to leave chance: "),
        ((45, 55), (36, 72), (71, 83), "Neither change alone is enough to leave chance, but both are: "),
        ((45, 55), (36, 72), (45, 83), "None of these changes is enough to leave chance: "),
    ],
)
def test_what_kept_resnet50_at_chance_is_the_change_that_leaves_it(preprocessing, batchnorm, both, words):
    ends = {"as published": (28, 72), "its own preprocessing": preprocessing}
    ends |= {"batch normalization left alone": batchnorm, "both": both}
    rows = [found(label, sum(pair) / 2, *pair, "resnet50") for label, pair in ends.items()]
    assert answers.resnet50(pd.DataFrame(rows)).startswith(f"{words}as published 50.0% (28.0% to 72.0%), ")
    assert answers.resnet50(pd.DataFrame(rows[:3])) == ""
    rows[0] |= {"low": 0.51}
    assert answers.resnet50(pd.DataFrame(rows)).startswith("As published, ResNet50 is better than chance here")


@pytest.mark.parametrize(
    ("one_class", "words"),
    [
        (False, "so the published rate is the reason that it learns nothing"),
        (True, "still calls every cell the same, so the rate alone is not the reason"),
    ],
)
def test_googlenets_collapse_is_blamed_on_the_rate_only_if_it_learns_at_a_lower_one(one_class, words):
    rows = [
        found("as published", 67.9, 35.9, 88.9, "googlenet", one_class=True),
        found("a tenth of the rate", 82, 75, 88, "googlenet", one_class=one_class),
    ]
    said = answers.mamaev(pd.DataFrame(rows), printed_by("Mamaev"))
    assert said.startswith("No: 0 of 1 results come again.")
    assert words in said
    assert "dense layers" not in said
    rows.append(found("as published", 67.9, 35.9, 88.9, "vgg16", one_class=True))
    assert "VGG16's dense layers start from random numbers here" in answers.mamaev(
        pd.DataFrame(rows), printed_by("Mamaev")
    )


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ((0.01, 0.03), "Yes: split by image, both networks look better, by 1.0 to 3.0 points. "),
        ((-0.01, 0.03), "Yes: split by image, 1 of the 2 networks look better, by 3.0 points. "),
        ((-0.01, 0), "Splitting by image flatters none of these 2 networks. "),
    ],
)
def test_the_answer_on_splits_says_how_much_better_networks_look_and_which_layers_were_trained(more, words):
    rows = [
        {"difference": by, "low": by - 0.02, "high": by + 0.02, "n": 900, "subjects": 12, "frozen": True} for by in more
    ]
    said = answers.honest(pd.DataFrame(rows))
    assert said.startswith(words)
    assert "Only heads were trained" in said
    fine_tuned = answers.honest(pd.DataFrame([*rows, rows[0] | {"difference": 0.08, "low": 0.05, "frozen": False}]))
    assert "1 fine-tuned network by +8.0 points" in fine_tuned
    assert "Only heads were trained" not in fine_tuned


def test_the_best_recipe_is_held_against_the_winner_fold_by_fold():
    tests = {1: (0.877, (0.716, 0.953)), 0: (0.865, (0.814, 0.903))}
    winner = [row for row in PUBLISHED if row.metric == "f1_weighted"]
    said = answers.best("one", "MobileNet", tests, winner)
    assert "0.877 (0.716 to 0.953) on fold 1 and 0.865 (0.814 to 0.903) on fold 0" in said
    assert "The 0.910 of the winner" in said
    assert said.endswith(
        "(C-NMC challenge, final) lies within the interval on fold 1 and above the interval on fold 0."
    )
    assert answers.best("one", "MobileNet", {1: (0.95, (0.93, 0.97))}, winner).endswith("below the interval on fold 1.")
