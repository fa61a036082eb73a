"""Tables as CSV that spreadsheets can open safely: no text of other people becomes a formula."""

import re

import pandas as pd

_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]|[\t\r]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?")


def no_formula(text: str) -> str:
    """Return text with an apostrophe before a formula, so that a spreadsheet shows it (OWASP, CSV injection)."""
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def original_text(text: str) -> str:
    """Return what `no_formula` was given."""
    return text[1:] if text.startswith("'") and no_formula(text[1:]) == text else text


def csv_text(table: pd.DataFrame) -> str:
    """Return a table, without its index, as CSV in which no cell or column name is a formula."""
    safe = table.rename(columns=lambda name: no_formula(str(name)))
    for place, kind in enumerate(safe.dtypes):
        if not pd.api.types.is_numeric_dtype(kind):
            column = safe.iloc[:, place].map(lambda value: no_formula(value) if isinstance(value, str) else value)
            safe.isetitem(place, column.array)
    return safe.to_csv(index=False)
