"""Where a client connects to: what an endpoint's text means.

    127.0.0.1:2379          TLS if the client was given certificates
    http://host:2379        plain, whatever the client was given
    https://host:2379       TLS, with the system's authorities if none were given
    unix:///run/etcd.sock   a socket in the file system; unixs: the same over TLS

Source: etcd client/v3/internal/endpoint.
"""

from __future__ import annotations


class Endpoint:
    """One endpoint: an address, the name its certificate is checked for, and whether TLS is wanted.

    `secure` is None when the text leaves it to the client. An address without a
    port, or with a scheme of another kind, has port 0; nothing can connect to it.
    """

    __slots__ = ("authority", "host", "path", "port", "secure", "server_name", "text")

    def __init__(self, text: str, server_name: str = "") -> None:
        """`server_name`: what certificates are checked for instead of the address."""
        self.server_name = ""
        self._read(text)
        # DNS ends names with a dot, certificates do not.
        self.server_name = server_name or self.server_name.removesuffix(".")

    def _read(self, text: str) -> None:
        self.text = text
        self.secure: bool | None = None
        self.path = ""
        self.host = ""
        self.port = 0
        if text.startswith(("unix:", "unixs:")):
            scheme, _, rest = text.partition(":")
            self.path = rest[2:] if rest.startswith("//") else rest
            self.secure = True if scheme == "unixs" else None
            self.server_name = _split_host_port(self.path.rsplit("/", 1)[-1])[0]
            self.authority = self.server_name
            return
        scheme, separator, rest = text.partition("://")
        if separator:
            if scheme not in ("http", "https"):
                self.server_name = self.authority = text
                return
            self.secure = scheme == "https"
            address = rest.split("/", 1)[0].split("?", 1)[0].rsplit("@", 1)[-1]
        else:
            address = text
        self.host, self.port = _split_host_port(address)
        self.server_name = self.host
        self.authority = address

    @property
    def is_loopback(self) -> bool:
        """Whether the address can only be this machine."""
        return not self.path and (self.host in ("localhost", "::1") or self.host.startswith("127."))


def _split_host_port(address: str) -> tuple[str, int]:
    if address.startswith("["):
        host, _, rest = address[1:].partition("]")
        port = rest[1:] if rest.startswith(":") else ""
    elif address.count(":") == 1:
        host, _, port = address.partition(":")
    else:
        host, port = address, ""
    return host, int(port) if port.isascii() and port.isdigit() else 0
