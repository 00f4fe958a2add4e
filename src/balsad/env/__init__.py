"""The outside world as Protocols, so that the simulator can stand in for it."""

from balsad.env.protocols import Clock, Disk, Env, Mapping, Random

__all__ = ["Clock", "Disk", "Env", "Mapping", "Random"]
