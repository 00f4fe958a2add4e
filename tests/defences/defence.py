"""What a defence is: a piece of source, what to have instead of it, and the tests that then must fail."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Defence:
    """One line of the tables in this folder."""

    against: str
    """The attack or fault, in a few words; names the line."""
    place: str
    """`package.module:Class.function`, or `package.module` for what stands outside of all functions."""
    text: str
    """The defence: stands exactly once in `place`, line breaks and all."""
    instead: str
    """What stands there while it is taken out."""
    attacks: tuple[str, ...]
    """Tests, as pytest names them, each of which must fail then."""
    expect: str = ""
    """What one of the failures says, where one that says something else would prove nothing."""
    is_slow: bool = False
    """Starts members, or needs many histories: only in `make soak`."""

    @property
    def module(self) -> str:
        return "balsad." + self.place.partition(":")[0]

    @property
    def path(self) -> Path:
        path = ROOT.joinpath("src", *self.module.split("."))
        return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")

    def source_without(self) -> str:
        """The module's source without the defence. Raises AssertionError when it is not where this says."""
        source = self.path.read_text()
        name = self.place.partition(":")[2]
        lines = source.splitlines(keepends=True)
        try:
            first, last = _find(ast.parse(source), name) if name else (1, len(lines))
        except StopIteration:
            raise AssertionError(f"{self.place}, which had the defence against {self.against}, is gone") from None
        part = "".join(lines[first - 1 : last])
        count = part.count(self.text)
        assert count == 1, (
            f"the defence against {self.against} stands {count} times in {self.place}, not once:\n{self.text}\n"
            "If it has moved or changed its form, tell this table, and see that its attacks still find it taken out."
        )
        return "".join(lines[: first - 1]) + part.replace(self.text, self.instead) + "".join(lines[last:])


def _find(tree: ast.Module, name: str) -> tuple[int, int]:
    """First and last line of a function or class."""
    body: list[ast.stmt] = tree.body
    found: ast.stmt | None = None
    for part in name.split("."):
        found = next(
            node
            for node in body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == part
        )
        body = found.body
    assert found is not None
    assert found.end_lineno is not None
    return found.lineno, found.end_lineno
