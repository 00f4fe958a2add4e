"""balsad: etcd, in Python."""

import sys

__version__ = "0.1.0"

# Who is interrupted while the modules of a program are imported sees it end by that signal, as a Go program does, and
# no traceback. What comes later is for its `main` to say. (`-m`: python -m balsad.)
if sys.argv and sys.argv[0].rpartition("/")[2] in ("etcd", "balsad", "etcdctl", "etcdutl", "-m"):
    import _signal  # type: ignore[import-not-found]  # the built-in part of `signal`, which takes longer to load

    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
