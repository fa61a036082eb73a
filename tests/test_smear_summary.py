import pandas as pd

from leukodash.inference.smear_summary import UNLIKE, cell_name, count_cells, smear_words


def test_a_smear_is_summarized_by_the_average_of_its_runs():
    rows = [
        ("a.jpg, cell 1", "one", "all", False),
        ("a.jpg, cell 1", "average", "hem", False),
        ("a.jpg, cell 2", "average", "all", False),
        ("a.jpg, cell 3", "average", "all", True),
        ("b.jpg, cell 1", "average", "all", False),
        ("single.png", "average", "all", False),
    ]
    table = pd.DataFrame(rows, columns=["file", "run", "class", "novel"]).assign(p_all=0.5, p_hem=0.5, error="")
    counts = count_cells(table, ["a.jpg", "b.jpg", "none.jpg"])
    assert counts["white cells"].to_list() == [3, 1, 0]
    assert counts["ALL blast"].to_list() == [1, 1, 0]
    assert counts["normal"].to_list() == [1, 0, 0]
    assert counts[UNLIKE].to_list() == [1, 0, 0]
    assert smear_words(counts) == "3 white cells: 1 ALL blast · 1 normal · 1 unlike the training cells"
    assert smear_words(counts[1:]) == "1 white cell: 1 ALL blast"
    assert cell_name("a.jpg", 3) == "a.jpg, cell 3"
