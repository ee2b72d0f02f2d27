"""Checks that a URL leads to this host, by the addresses that its host name resolves to."""

import ipaddress
import socket
from urllib.parse import SplitResult, urlsplit

from dynagest.errors import ActionError, DynagestError


def on_this_host(
    url: str, schemes: tuple[str, ...], error: type[DynagestError] = ActionError
) -> tuple[SplitResult, str]:
    """Return the parts of ``url`` and the loopback address to which its host resolves now.

    Connect to that address only: a name may resolve to another address the next time, so that connecting by name would
    undo the check. Raises ``error`` for another scheme, a URL that holds a user or a password, a host that cannot be
    found, and a host with any address that is not a loopback address.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as fault:
        raise error(f"{url}: not a URL ({fault})") from fault
    if parts.scheme not in schemes or not host:
        raise error(f"{url}: expected {' or '.join(f'{scheme}://' for scheme in schemes)} and a host")
    if parts.username is not None or parts.password is not None:
        raise error(f"{url}: holds a user or a password, which does not belong into a file or a command; leave it out")
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError) as fault:
        raise error(f"{url}: the host {host} cannot be found ({fault})") from fault
    outside = sorted(address for address in found if not _is_loopback(address))
    if outside:
        where = host if host == outside[0] else f"{host} ({outside[0]})"
        raise error(f"{url}: {where} is another machine; only this host is allowed, such as 127.0.0.1")
    return parts, min(found, key=lambda address: (":" in address, address))


def _is_loopback(address: str) -> bool:
    number = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(number, ipaddress.IPv6Address) and number.ipv4_mapped is not None:
        number = number.ipv4_mapped
    return number.is_loopback
