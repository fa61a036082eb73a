import re
from pathlib import Path

from made_runs import made_cells, made_run

from leukodash.runs.imported_predictions import import_predictions
from leukodash.runs.run_report import comparison_report, run_card


def read(html):
    """The sources of scripts, images and links, the alt texts of the figures, and the text of a report."""
    html = re.sub(r"(<(script|style)[^>]*>).*?</\2>", r"\1", html, flags=re.DOTALL)
    sources = re.findall(r"<[^>]*\s(?:src|href)=[^>]*>", html)
    alts = re.findall(r'<[^>]*role="img"[^>]*aria-label="([^"]*)"', html)
    return sources, alts, re.sub(r"<[^>]*>", " ", html)


def test_a_report_needs_no_network_starts_with_the_verdict_and_describes_its_figures():
    runs = [made_run("vgg16", seed=1), made_run("mobilenet", seed=2, skill=0.2)]
    sources, alts, words = read(comparison_report(runs))
    assert sources == []
    for sentence in ("on 70 images of 7 subjects", "Only 7 test subjects", "Not a medical device", "By person"):
        assert sentence in words
    assert len(alts) == 13  # forest, two matrices, pairs, three of people, ROC, PR, calibration twice, accuracy, loss
    assert all(alts)
    assert "MobileNet · seed 2: probabilities calibrated by a temperature of" in " ".join(words.split())
    for head in ("only the second", "limitations", "training, seconds", "F1, weighted"):
        assert f" {head} " in words
    assert not re.search(r"[a-z]_[a-z]| %", words)


def test_titles_become_neither_html_nor_markdown():
    run = made_run("vgg16", about={"title": "a\n\n# b <img src=x onerror=alert(1)>", "owner": "<b>me</b>"})
    html = comparison_report([run])
    assert "<img" not in html.split("</head>")[1]
    assert "<b>me</b>" not in html
    assert run_card(run).splitlines()[0] == "# a b img src=x onerror=alert(1)"


def test_class_names_of_an_import_become_neither_html_nor_markdown():
    content = b"file,label,p_<i>x</i>,p_y\na,<i>x</i>,0.9,0.1\nb,y,0.2,0.8\n"
    run = import_predictions(content, "torch.csv")
    assert "<i>" not in comparison_report([run]).split("</head>")[1]
    assert "- test: 1 ix/i, 1 y" in run_card(run)
    assert "- predictions of another tool: torch.csv" in run_card(run)


def test_a_card_names_no_folder_of_this_machine_and_makes_no_links(tmp_path):
    run = made_run("vgg16", about={"title": "www.evil.org https://evil.org _x_ a@b.org &lt;b&gt;", "owner": "`code`"})
    card = run_card(run)
    assert str(Path(run.config.data).parent) != "."
    assert str(Path(run.config.data).parent) not in card
    assert f"- data: `{Path(run.config.data).name}`" in card
    assert card.splitlines()[0] == r"# www\.evil.org https\://evil.org \_x\_ a\@b.org \&lt;b\&gt;"


def test_links_of_class_names_are_none_in_the_figures_of_a_report():
    content = b"file,label,p_<a href='http://evil'>x</a>,p_y\na,<a href='http://evil'>x</a>,0.9,0.1\nb,y,0.2,0.8\n"
    html = comparison_report([import_predictions(content, "torch.csv")]).split("</head>")[1]
    assert "evil" in html
    assert not re.search(r"(<|\\u003c)\s*a\b[^>]*evil", html, re.IGNORECASE)


def test_a_run_without_subjects_has_a_report_without_them():
    run = made_run("vgg16", cells=made_cells().assign(subject=None))
    _, alts, words = read(comparison_report([run]))
    assert "By person" not in words
    assert len(alts) == 7


def test_the_model_card_holds_the_numbers_and_the_limitations():
    run = made_run("vgg16", about={"owner": "Ana"}, metrics={"generated": True, "area_auc": 0.61})
    card = run_card(run)
    assert card.startswith("# VGG16 ")
    assert f"{run.metrics['correct']} of 70 right" in card
    low, high = run.metrics["sensitivity_interval"]
    assert f"| sensitivity | {run.metrics['sensitivity']:.3f} | {low:.3f}–{high:.3f} |" in card
    assert "- test: 40 ALL blast, 30 normal of 7 subjects" in card
    assert "never seen a real one" in card
    assert "0.610" in card
    assert "- owner: Ana" in card
