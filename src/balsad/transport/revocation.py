"""Which certificates an authority has taken back: the serial numbers of a revocation list, PEM or DER.

    CertificateList { TBSCertList { [version] algorithm issuer thisUpdate [nextUpdate]
                                    [revoked { { serial date .. } .. }] .. } .. }

Like etcd this asks about every certificate that a client shows, and by its number alone; neither who signed the list
nor how old it is. OpenSSL would turn everybody away with a list whose next update is due. The file is looked at again
for every connection.

Source: etcd client/pkg/transport/listener_tls.go (checkCRL); RFC 5280, 5.1.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Iterable
from typing import Any, Final

_PEM: Final = re.compile(rb"-----BEGIN X509 CRL-----(.*?)-----END X509 CRL-----", re.DOTALL)
_INTEGER: Final = 0x02
_VERSION: Final = 0xA0
_DER: Final = 2  # _ssl.ENCODING_DER
_SEQUENCE: Final = 0x30
_TIMES: Final = (0x17, 0x18)


class RevocationList:
    """The list in a file, read anew when the file changes."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._stamp: tuple[int, ...] | None = None
        self._serials: frozenset[int] = frozenset()

    def refusal(self, certificate: dict[str, Any], presented: Iterable[int] = ()) -> str:
        """Why a client with this certificate (as getpeercert gives it) is turned away; empty if it is not.

        `presented` are the serial numbers of all that it showed, those of its authorities, too.
        """
        if not certificate:
            return ""
        try:
            status = os.stat(self._path)
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            if stamp != self._stamp:
                with open(self._path, "rb") as file:
                    self._serials = revoked_serials(file.read())
                self._stamp = stamp
            serial = int(str(certificate["serialNumber"]), 16)
        except (OSError, ValueError) as error:
            # Who cannot tell lets nobody in, as etcd does.
            return f"{self._path}: {error.strerror if isinstance(error, OSError) else error}"
        for each in (serial, *presented):
            if each in self._serials:
                return f"transport: certificate serial {each:x} revoked"
        return ""


def presented_serials(ssl_object: Any) -> list[int]:
    """The serial numbers of every certificate the other side has shown, its own first."""
    # Python has this of its own only since 3.13.
    chain = getattr(ssl_object, "get_unverified_chain", None)
    if chain is not None:
        certificates = chain()
    else:
        chain = getattr(getattr(ssl_object, "_sslobj", None), "get_unverified_chain", None)
        certificates = [each.public_bytes(_DER) for each in chain() or ()] if chain is not None else []
    return [_serial(certificate) for certificate in certificates]


def _serial(certificate: bytes) -> int:
    """Certificate { TBSCertificate { [0] { version } serial .. } .. }"""
    kind, at, end = _element(certificate, 0, len(certificate))
    _expect(kind, _SEQUENCE)
    kind, at, end = _element(certificate, at, end)
    _expect(kind, _SEQUENCE)
    kind, start, after = _element(certificate, at, end)
    if kind == _VERSION:
        kind, start, after = _element(certificate, after, end)
    _expect(kind, _INTEGER)
    return int.from_bytes(certificate[start:after], "big", signed=True)


def revoked_serials(data: bytes) -> frozenset[int]:
    """Raises ValueError when it is no revocation list."""
    pem = _PEM.search(data)
    if pem is not None:
        try:
            data = base64.b64decode(b"".join(pem.group(1).split()), validate=True)
        except binascii.Error as error:
            raise ValueError(f"not a certificate revocation list: {error}") from error
    kind, at, end = _element(data, 0, len(data))
    _expect(kind, _SEQUENCE)
    kind, at, end = _element(data, at, end)
    _expect(kind, _SEQUENCE)
    kind, start, after = _element(data, at, end)
    if kind == _INTEGER:  # the version
        kind, start, after = _element(data, after, end)
    _expect(kind, _SEQUENCE)  # the algorithm
    kind, start, after = _element(data, after, end)
    _expect(kind, _SEQUENCE)  # the issuer
    kind, start, after = _element(data, after, end)
    if kind not in _TIMES:
        raise _no_list()
    while after < end and kind in _TIMES:
        kind, start, after = _element(data, after, end)
    serials = set()
    if kind == _SEQUENCE:
        while start < after:
            kind, entry, start = _element(data, start, after)
            _expect(kind, _SEQUENCE)
            kind, serial, serial_end = _element(data, entry, start)
            _expect(kind, _INTEGER)
            serials.add(int.from_bytes(data[serial:serial_end], "big", signed=True))
    return frozenset(serials)


def _element(data: bytes, at: int, end: int) -> tuple[int, int, int]:
    """The tag of a DER element, where its content begins and where it ends."""
    if at + 2 > end:
        raise _no_list()
    kind, length, at = data[at], data[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        if not 0 < size <= 4 or at + size > end:
            raise _no_list()
        length = int.from_bytes(data[at : at + size], "big")
        at += size
    if at + length > end:
        raise _no_list()
    return kind, at, at + length


def _expect(kind: int, wanted: int) -> None:
    if kind != wanted:
        raise _no_list()


def _no_list() -> ValueError:
    return ValueError("not a certificate revocation list")
