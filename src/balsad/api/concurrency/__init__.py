"""Locks and elections as services: what clients build from keys and leases, done for them by the server."""

from balsad.api.concurrency.services import register_concurrency

__all__ = ["register_concurrency"]
