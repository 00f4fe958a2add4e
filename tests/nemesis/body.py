"""`python -m tests.nemesis.body NAME,... FOLDER`: play these faults, as the first process of new namespaces."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

from tests.nemesis.faults import NotHereError, play, play_at_random
from tests.nemesis.sandbox import SKIPPED


def main() -> int:
    name, folder = sys.argv[1], Path(sys.argv[2])
    try:
        if name == "random":
            play_at_random(folder)
        else:
            play(name.split(","), folder)
    except NotHereError as reason:
        print(reason)
        return SKIPPED
    except Exception:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
