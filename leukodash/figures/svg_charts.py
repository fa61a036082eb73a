"""Figures as SVG for Markdown pages, readable on light and dark backgrounds."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from leukodash.figures.theme import color

ROW, LEFT, WIDTH, RIGHT, BOTTOM = 26, 330, 430, 70, 34  # pixels
STYLE = """<style>text{font:13px sans-serif;fill:#24292f}.quiet{stroke:#8c959f;stroke-opacity:.4}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}}</style>"""


@dataclass(frozen=True)
class Line:
    """One row of a forest plot.

    Attributes:
        name: text on the left.
        backbone: backbone key, for the color; None is gray.
        value, low, high: the accuracy and its interval, 0..1; low and high are None without an interval.
        published: whether the marker is open, as in the app.
        others: the accuracies of single runs that `value` is the mean of, 0..1, drawn small.
    """

    name: str
    backbone: str | None
    value: float
    low: float | None = None
    high: float | None = None
    published: bool = False
    others: Sequence[float] = ()


def forest_svg(lines: Sequence[Line], title: str) -> str:
    """Return a forest plot as an SVG document.

    Args:
        lines: rows from top to bottom.
        title: title of the document, read by screen readers.
    """
    lowest = min(min(line.value, *(share for share in (line.low, *line.others) if share is not None)) for line in lines)
    start = max(0.0, int(lowest * 10) / 10)
    height = ROW * len(lines) + BOTTOM

    def x(share: float) -> str:
        return f"{LEFT + WIDTH * (share - start) / (1 - start):.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + RIGHT}" height="{height}" role="img">',
        f"<title>{escape(title)}</title>{STYLE}",
    ]
    for tenth in range(round(start * 10), 11):
        at = x(tenth / 10)
        parts.append(f'<line class="quiet" x1="{at}" x2="{at}" y1="4" y2="{height - BOTTOM}"/>')
        parts.append(f'<text x="{at}" y="{height - 12}" text-anchor="middle">{tenth * 10}%</text>')
    for place, line in enumerate(lines):
        y, ink = ROW * place + ROW // 2 + 4, color(None if line.published else line.backbone)
        fill = "none" if line.published else ink
        parts.append(f'<text x="{LEFT - 12}" y="{y + 4}" text-anchor="end">{escape(line.name)}</text>')
        if line.low is not None and line.high is not None:
            ends = f'x1="{x(line.low)}" x2="{x(line.high)}" y1="{y}" y2="{y}"'
            parts.append(f'<line {ends} stroke="{ink}" stroke-width="2"/>')
        parts += [f'<circle cx="{x(share)}" cy="{y}" r="2.5" fill="{ink}" fill-opacity=".5"/>' for share in line.others]
        parts.append(f'<circle cx="{x(line.value)}" cy="{y}" r="6" fill="{fill}" stroke="{ink}" stroke-width="2"/>')
        parts.append(f'<text x="{LEFT + WIDTH + 12}" y="{y + 4}">{line.value:.1%}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
