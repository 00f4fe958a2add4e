"""How members that found a cluster find each other, when their flags do not name them all."""

from balsad.discovery.find import discovers, find_initial_cluster, find_members
from balsad.discovery.refusals import DiscoveryError

__all__ = ["DiscoveryError", "discovers", "find_initial_cluster", "find_members"]
