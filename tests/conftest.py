"""Its place lets plain `pytest` import `tests.real` and what the tests share: the root goes on the path."""

import os
import signal
from pathlib import Path

import pytest

# Running members, the real etcd among them, on real time: what a loaded machine or the judge does once in a thousand
# runs is no fault of the change at hand. A second try, which the summary names (RERUN); all other tests have one.
LIVING = ("interop", "nemesis", "operator")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # As for what a shell starts in the background. Tools that the tests start shall end by Ctrl-C all the same.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # `make soak` is after the one in a thousand.
    if os.environ.get("BALSAD_SOAK") or not config.pluginmanager.hasplugin("rerunfailures"):
        return
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here) and item.path.relative_to(here).parts[0] in LIVING:
            item.add_marker(pytest.mark.flaky(reruns=1))
