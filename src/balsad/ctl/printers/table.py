"""Tables with borders of +, - and |. Source: etcdctl printer_table.go, olekukonko/tablewriter v0.0.5."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from balsad.client import messages as m
from balsad.ctl.printers import rows as r
from balsad.ctl.printers.base import Health, Printer

if TYPE_CHECKING:
    from balsad.ops.hashkv import HashKv
    from balsad.ops.snapshot_status import SnapshotStatus


_WRAP_WIDTH: Final = 30
_TOO_LONG_PENALTY: Final = 100_000


def table_text(header: list[str], rows: list[list[str]]) -> str:
    """The table: header centred and in upper case, cells to the right, long cells wrapped at spaces."""
    titles = [title.replace("_", " ").strip().upper() for title in header]
    heads = [_wrap(title) for title in titles]
    cells = [[_wrap(cell) for cell in row] for row in rows]
    widths = [
        max(
            *(_room(text) for text in (titles[column], *(row[column] for row in rows))),
            *(len(line) for lines in (heads[column], *(row[column] for row in cells)) for line in lines),
        )
        for column in range(len(header))
    ]
    border = "+" + "+".join("-" * (width + 2) for width in widths) + "+"
    out = [border]
    out += _lines(heads, [f"{{:^{width}}}" for width in widths])
    out.append(border)
    for row in cells:
        out += _lines(row, [f"{{:>{width}}}" for width in widths])
    out.append(border)
    return "\n".join(out)


def _lines(cells: list[list[str]], formats: list[str]) -> list[str]:
    height = max(len(lines) for lines in cells)
    padded = [lines + ["  "] * (height - len(lines)) for lines in cells]
    return [
        "| " + " | ".join(form.format(lines[number]) for form, lines in zip(formats, padded, strict=True)) + " |"
        for number in range(height)
    ]


def _room(text: str) -> int:
    """The width that a cell takes at least, also when its lines break before it."""
    return min(max(len(line) for line in text.split("\n")), _WRAP_WIDTH)


def _wrap(text: str) -> list[str]:
    """Lines of about equal length, none over the width unless a word is."""
    text = " ".join(text.split("\n"))
    words = text.split(" ")
    limit = max(_room(text), *(len(word) for word in words))
    count = len(words)
    costs = [0] * (count + 1)
    breaks = [count] * count
    for begin in range(count - 1, -1, -1):
        if len(" ".join(words[begin:])) <= limit:
            continue
        costs[begin] = 1 << 31
        for end in range(begin + 1, count):
            length = len(" ".join(words[begin:end]))
            cost = (limit - length) ** 2 + costs[end] + (_TOO_LONG_PENALTY if length > limit else 0)
            if cost < costs[begin]:
                costs[begin], breaks[begin] = cost, end
    lines = []
    begin = 0
    while begin < count:
        lines.append(" ".join(words[begin : breaks[begin]]))
        begin = breaks[begin]
    return lines


class TablePrinter(Printer):
    name: ClassVar[str] = "table"

    def _table(self, rows: r.Rows) -> None:
        self.console.print(table_text(*rows))

    def member_list(self, response: m.MemberListResponse) -> None:
        self._table(r.member_rows(response))

    def endpoint_health(self, healths: list[Health]) -> None:
        self._table(r.health_rows(healths))

    def endpoint_status(self, statuses: list[tuple[str, m.StatusResponse]]) -> None:
        self._table(r.status_rows(statuses))

    def endpoint_hash_kv(self, hashes: list[tuple[str, m.HashKVResponse]]) -> None:
        self._table(r.hash_kv_rows(hashes))

    def snapshot_status(self, status: SnapshotStatus) -> None:
        self._table(r.snapshot_rows(status))

    def db_hash_kv(self, result: HashKv) -> None:
        self._table(r.db_hash_kv_rows(result))
