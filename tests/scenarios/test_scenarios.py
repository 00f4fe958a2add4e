"""Scenario files: what each command prints, compared as it stands but for log lines."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Protocol

from tests.scenarios import scenario_confchange, scenario_interaction, scenario_quorum
from tests.scenarios.scenario_files import Command, parse

LOG_LINE = re.compile(r"^\s*(DEBUG|INFO|WARN|ERROR) ")


class World(Protocol):
    def run(self, command: Command) -> str: ...


def world_for(commands: list[Command]) -> World:
    for command in commands:
        if command.name in scenario_quorum.COMMANDS:
            return scenario_quorum.QuorumWorld()
        if command.name in scenario_confchange.COMMANDS:
            return scenario_confchange.ConfChangeWorld()
        if command.name in scenario_interaction.COMMANDS:
            break
    return scenario_interaction.InteractionWorld()


def comparable(output: str) -> str:
    """Without log lines; a command that prints nothing else says ok."""
    lines = [line for line in output.split("\n") if not LOG_LINE.match(line)]
    return "\n".join(lines).rstrip("\n") or "ok"


def test_scenario(scenario_path: Path) -> None:
    """Source: the test data of etcd's raft library."""
    commands = parse(scenario_path)
    assert commands, f"{scenario_path} has no commands"
    world = world_for(commands)
    for command in commands:
        printed = world.run(command)
        where = f"{scenario_path.name}:{command.line}: {command.name}"
        assert comparable(printed) == comparable(command.expected), where
