"""Columns of tab-terminated cells, aligned with tabs as Go's text/tabwriter aligns them.

    a column is a block of neighbouring lines that have a cell there:
    \\tput\\tPuts       |<tab>put<tab><tab>Puts
    \\trole get\\tGets  |<tab>role get<tab>Gets

Written for minimal width 0, tab width 8, padding 1 and the tab as padding
character, the one setting that etcdctl uses. What follows the last tab of a
line belongs to no column.
"""

from __future__ import annotations

from typing import Final

_TAB: Final = 8
_PADDING: Final = 1


def align(text: str) -> str:
    """The text with its columns aligned."""
    lines = [line.split("\t") for line in text.split("\n")]
    out: list[str] = []
    _format(lines, 0, len(lines), [], out)
    return "".join(out)[:-1]


def _format(lines: list[list[str]], first: int, last: int, widths: list[int], out: list[str]) -> None:
    """Write lines[first:last], whose columns up to len(widths) are known."""
    column = len(widths)
    begin = at = first
    while at < last:
        if column >= len(lines[at]) - 1:
            at += 1
            continue
        # A cell exists in this column: write what comes before this block.
        _write(lines, begin, at, widths, out)
        begin = at
        width = 0
        while at < last and column < len(lines[at]) - 1:
            width = max(width, len(lines[at][column]) + _PADDING)
            at += 1
        _format(lines, begin, at, [*widths, width], out)
        begin = at
    _write(lines, begin, last, widths, out)


def _write(lines: list[list[str]], first: int, last: int, widths: list[int], out: list[str]) -> None:
    for line in lines[first:last]:
        for number, cell in enumerate(line):
            out.append(cell)
            if number < len(widths) and number < len(line) - 1:
                cell_width = (widths[number] + _TAB - 1) // _TAB * _TAB
                out.append("\t" * ((cell_width - len(cell) + _TAB - 1) // _TAB))
        out.append("\n")
