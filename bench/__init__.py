"""Measures balsad beside the real etcd: `python -m bench.run`."""
