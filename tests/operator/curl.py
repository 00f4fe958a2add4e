"""`python -m tests.operator.curl METHOD URL JSON`: the answer's status on a line, then its body."""

from __future__ import annotations

import sys

from tests.interop.servers import fetch

method, url, body = sys.argv[1:]
status, answer, _ = fetch(url, method, body.encode(), {"Content-Type": "application/json"})
print(status)
print(answer.decode(), end="")
