"""Endpoints from DNS: the SRV records of `_etcd-client-ssl._tcp.DOMAIN` and `_etcd-client._tcp.DOMAIN`.

Source: etcd client/pkg/srv/srv.go (GetClient), etcdctl global.go.
"""

from __future__ import annotations

from balsad.ctl.console import EXIT_ERROR, Console, Failure
from balsad.dns_srv import LookupFailedError, look_up_srv
from balsad.go_quote import quote_go


def find_endpoints(console: Console, domain: str, service_name: str, *, allow_insecure: bool) -> list[str]:
    """The endpoints that a domain names, with schemes; hosts keep the dot that DNS puts behind them."""
    suffix = f"-{service_name}" if service_name else ""
    found: list[str] = []
    errors: list[str] = []
    for service, scheme in ((f"etcd-client-ssl{suffix}", "https"), (f"etcd-client{suffix}", "http")):
        try:
            records = look_up_srv(f"_{service}._tcp.{domain}")
        except LookupFailedError as error:
            errors.append(str(error))
        else:
            found += [f"{scheme}://{record.target}:{record.port}" for record in records]
    if len(errors) == 2:
        raise Failure(EXIT_ERROR, f"dns lookup errors: {errors[0]} and {errors[1]}")
    if allow_insecure:
        return found
    for endpoint in found:
        if endpoint.startswith("http://"):
            console.error(f"ignoring discovered insecure endpoint {quote_go(endpoint)}")
    return [endpoint for endpoint in found if not endpoint.startswith("http://")]
