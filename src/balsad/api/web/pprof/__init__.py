"""/debug/pprof: where a running server's time and memory are, in the forms that `go tool pprof` reads."""

from balsad.api.web.pprof.pages import pprof_pages

__all__ = ["pprof_pages"]
