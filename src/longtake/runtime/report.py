"""What was found, as one HTML page that needs nothing else: tables, plots, a slider on stills."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from string import Template

from longtake import __version__

Curve = Sequence[tuple[float, float, float]]  # (least, mean, greatest) of equal runs of frames
_WIDTH, _HEIGHT = 600, 240  # px of a plot, in its own units
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 12, 14, 34


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """A table; the first row holds the headings."""

    caption: str
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    caption: str
    unit: str
    curve: Curve
    seconds: tuple[float, float]  # that the curve spans


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One frame in every view: (media type, bytes) of each picture."""

    name: str
    about: str
    pictures: Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    title: str
    notes: Sequence[str]
    tables: Sequence[Rows]
    plots: Sequence[Plot]
    views: Sequence[str]
    moments: Sequence[Moment]
    first: int  # of the moments: the one to begin with
    videos: Sequence[tuple[str, str]]  # (caption, file name beside the report)

    def html(self) -> str:
        page = Template(
            resources.files("longtake.runtime").joinpath("report.html").read_text("utf-8")
        )
        return page.substitute(
            title=escape(self.title),
            notes="\n".join(f'<p class="note">{escape(n)}</p>' for n in self.notes),
            tables="\n".join(map(_table, self.tables)),
            plots=_section("Over time", _drawn([p for p in self.plots if p.curve])),
            videos=_section("Films", [_video(*v) for v in self.videos]),
            footer=f"Made by longtake {__version__}. This page loads nothing from a network; the "
            "films lie beside it.",
            data=_embedded(self),
        )  # fmt: skip


def _section(title: str, parts: Sequence[str]) -> str:
    return "\n".join([f'<h2>{title}</h2><div class="tiles">', *parts, "</div>"]) if parts else ""


def _embedded(report: Report) -> str:
    """JSON that may stand inside a script element: no "<" can end it."""
    stills = [
        {
            "name": moment.name,
            "about": moment.about,
            "pictures": [
                f"data:{kind};base64,{base64.b64encode(body).decode()}"
                for kind, body in moment.pictures
            ],
        }
        for moment in report.moments
    ]
    text = json.dumps(
        {"views": list(report.views), "stills": stills, "first": report.first}, allow_nan=False
    )
    return text.replace("<", "\\u003c")


def _table(table: Rows) -> str:
    head, *body = table.rows
    cells = "".join(f'<th scope="col">{escape(c)}</th>' for c in head)
    lines = [
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(f"<td>{escape(c)}</td>" for c in rest)
        + "</tr>"
        for first, *rest in body
    ]
    return (
        f'<p class="about">{escape(table.caption)}</p><div class="wide"><table>'
        f"<thead><tr>{cells}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _video(caption: str, name: str) -> str:
    if not name.endswith(".mp4"):  # browsers do not play it
        return f'<p><a href="{escape(name)}">{escape(caption)}</a></p>'
    return (
        f'<figure><video controls preload="metadata" src="{escape(name)}"></video>'
        f'<figcaption><a href="{escape(name)}">{escape(caption)}</a></figcaption></figure>'
    )


def _drawn(plots: Sequence[Plot]) -> list[str]:
    """Plots of one unit have one scale, so that they can be compared."""
    reach: dict[str, tuple[float, float]] = {}
    for plot in plots:
        low, high = reach.get(plot.unit, (math.inf, -math.inf))
        lowest, highest = min(c[0] for c in plot.curve), max(c[2] for c in plot.curve)
        reach[plot.unit] = min(low, lowest), max(high, highest)
    return [_plot(plot, *reach[plot.unit]) for plot in plots]


def _plot(plot: Plot, low: float, high: float) -> str:
    """An SVG: the band from least to greatest in each pixel column, and the mean as a line."""
    room = (high - low) * 0.05 or max(abs(high) * 0.01, 1e-6)
    low, high = low - room, high + room
    wide, tall = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def x(place: float) -> float:
        return _LEFT + wide * place

    def y(value: float) -> float:
        return _TOP + tall * (high - value) / (high - low)

    runs = [plot.curve[0], *plot.curve, plot.curve[-1]]  # out to both borders
    count = len(plot.curve)
    centres = [x(0), *(x((i + 0.5) / count) for i in range(count)), x(1)]
    upper = [f"{c:.1f},{y(v[2]):.1f}" for c, v in zip(centres, runs, strict=True)]
    lower = [f"{c:.1f},{y(v[0]):.1f}" for c, v in zip(centres, runs, strict=True)]
    means = [f"{c:.1f},{y(v[1]):.1f}" for c, v in zip(centres, runs, strict=True)]
    title = f"{plot.caption}, {plot.unit}".rstrip(", ")
    begin, end = plot.seconds
    parts = [
        f'<figure><figcaption>{escape(title)}</figcaption><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'role="img" aria-label="{escape(title)}"><title>{escape(title)}</title>'
    ]
    for step in range(5):
        value = low + (high - low) * step / 4
        parts.append(
            f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(value):.1f}" '
            f'y2="{y(value):.1f}"/><text x="{_LEFT - 6}" y="{y(value) + 4:.1f}" '
            f'text-anchor="end">{_figure(value, high - low)}</text>'
        )
    for step, anchor in ((0, "start"), (1, "middle"), (2, "end")):
        moment = begin + (end - begin) * step / 2
        parts.append(
            f'<text x="{x(step / 2):.1f}" y="{_HEIGHT - 8}" text-anchor="{anchor}">'
            f"{stamp(moment)}</text>"
        )
    parts.append(f'<polygon class="span" points="{" ".join(upper + lower[::-1])}"/>')
    parts.append(f'<polyline class="mean" points="{" ".join(means)}"/></svg></figure>')
    return "".join(parts)


def _figure(value: float, spread: float) -> str:
    return f"{value:.{0 if spread > 20 else 1 if spread > 2 else 2 if spread > 0.2 else 4}f}"


def stamp(seconds: float) -> str:
    """1:02:03.250"""
    millis = round(abs(seconds) * 1000)
    minutes, rest = divmod(millis, 60_000)
    hours, minutes = divmod(minutes, 60)
    shown = f"{minutes}:{rest / 1000:06.3f}" if not hours else (
        f"{hours}:{minutes:02d}:{rest / 1000:06.3f}"
    )  # fmt: skip
    return f"-{shown}" if seconds < 0 else shown
