"""Output formats: simple, fields, json, protobuf, table."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from balsad.ctl.console import Console
    from balsad.ctl.printers.base import Printer


def make_printer(name: str, console: Console, is_hex: bool) -> Printer | None:
    """The printer of a --write-out; None if there is none of this name."""
    if name == "simple":
        from balsad.ctl.printers.simple import SimplePrinter

        return SimplePrinter(console, is_hex)
    if name == "json":
        from balsad.ctl.printers.json import JsonPrinter

        return JsonPrinter(console, is_hex)
    if name == "fields":
        from balsad.ctl.printers.fields import FieldsPrinter

        return FieldsPrinter(console, is_hex)
    if name == "table":
        from balsad.ctl.printers.table import TablePrinter

        return TablePrinter(console, is_hex)
    if name == "protobuf":
        from balsad.ctl.printers.protobuf import ProtobufPrinter

        return ProtobufPrinter(console, is_hex)
    return None
