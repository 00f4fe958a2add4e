"""Metrics as text, as prometheus/client_golang writes them to the byte.

    # HELP etcd_server_has_leader Whether or not a leader exists. 1 is existence, 0 is not.
    # TYPE etcd_server_has_leader gauge
    etcd_server_has_leader 1

Written here and not by a library because etcd has counters whose names do not end in `_total`, which Python's client
renames. For the same reason OpenMetrics is not offered: etcd does not offer it either.
Source: prometheus/common expfmt text_create.go, Go strconv.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final, Literal

from balsad.observe.cells import Counter, Gauge, Histogram

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

Kind = Literal["counter", "gauge", "histogram"]
Labels = tuple[tuple[str, str], ...]
Sample = tuple[Labels, Counter | Gauge | Histogram | float]


class Family:
    """All samples of one name."""

    __slots__ = ("help", "kind", "name", "samples")

    def __init__(self, name: str, kind: Kind, help_text: str, samples: Sequence[Sample]) -> None:
        self.name = name
        self.kind = kind
        self.help = help_text
        self.samples = samples


def render(families: Iterable[Family]) -> str:
    """Families by name, samples by their labels' values; a family without samples is left out."""
    lines: list[str] = []
    for family in sorted(families, key=lambda family: family.name):
        if not family.samples:
            continue
        lines.append(f"# HELP {family.name} {_escape(family.help)}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        ordered = [(tuple(sorted(labels)), value) for labels, value in family.samples]
        ordered.sort(key=lambda sample: [text for _, text in sample[0]])
        for labels, value in ordered:
            if isinstance(value, Histogram):
                _render_histogram(family.name, labels, value, lines)
            else:
                number = value.value if isinstance(value, (Counter, Gauge)) else value
                lines.append(f"{family.name}{_braces(labels)} {format_number(number)}")
    lines.append("")
    return "\n".join(lines)


def _render_histogram(name: str, labels: Labels, histogram: Histogram, lines: list[str]) -> None:
    inner = _pairs(labels) + "," if labels else ""
    cumulated = 0
    for bound, count in zip(histogram.bounds, histogram.counts, strict=False):
        cumulated += count
        lines.append(f'{name}_bucket{{{inner}le="{format_number(bound)}"}} {format_number(cumulated)}')
    cumulated += histogram.counts[-1]
    lines.append(f'{name}_bucket{{{inner}le="+Inf"}} {format_number(cumulated)}')
    lines.append(f"{name}_sum{_braces(labels)} {format_number(histogram.total)}")
    lines.append(f"{name}_count{_braces(labels)} {format_number(cumulated)}")


def _braces(labels: Labels) -> str:
    return f"{{{_pairs(labels)}}}" if labels else ""


def _pairs(labels: Labels) -> str:
    return ",".join(f'{name}="{_escape_value(value)}"' for name, value in labels)


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _escape_value(text: str) -> str:
    return _escape(text).replace('"', '\\"') if not text.isalnum() else text


def format_number(value: float) -> str:
    """The shortest text that reads back as the same float; exponents from a million on, as Go's %g has them."""
    if isinstance(value, int) and -1_000_000 < value < 1_000_000:
        return str(value)
    number = float(value)
    if not math.isfinite(number):
        return "NaN" if math.isnan(number) else "+Inf" if number > 0 else "-Inf"
    if number == 0:
        return "-0" if math.copysign(1, number) < 0 else "0"
    if 1e-4 <= abs(number) < 1e6:
        return repr(number).removesuffix(".0")
    from decimal import Decimal  # takes longer to import than all of this file, and few numbers get here

    sign, digits, exponent = Decimal(repr(number)).normalize().as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits))
    point = exponent + len(text) - 1
    mantissa = f"{text[0]}.{text[1:]}" if len(text) > 1 else text
    return f"{'-' if sign else ''}{mantissa}e{'-' if point < 0 else '+'}{abs(point):02d}"
