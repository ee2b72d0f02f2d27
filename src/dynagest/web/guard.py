"""Checks every request before the handlers see it. Needs no torch.

``Guard`` checks for which host a request is (``Host``, against DNS rebinding), from which page a change comes
(``Origin``, against forms of other sites) and how often changes come. It adds headers to every answer that isolate the
page and limit what it may load. ``read_body`` limits the size of a body and the time that it takes.
"""

import asyncio
import ipaddress
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from http import HTTPStatus

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

WRITES_A_MINUTE = 120

# Added to an answer unless it sets them itself. 'wasm-unsafe-eval' allows compiling WebAssembly, not running text as a
# program. COOP and COEP make the page "cross-origin isolated"; otherwise browsers give it no threads that share memory.
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; worker-src 'self'; manifest-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=(), display-capture=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}

_READS, _WRITES = ("GET", "HEAD"), ("POST", "DELETE")
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?")
_LATER = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


class RequestError(Exception):
    """A refused request: the status, and a message that says what is wrong and, where it helps, what to do."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message

    def response(self) -> JSONResponse:
        """The answer: ``{"error": message}`` with the status, and with ``Retry-After`` for 429 and 503."""
        headers = {"retry-after": "5"} if self.status in _LATER else {}
        return JSONResponse({"error": self.message}, self.status, HEADERS | headers)


class Guard:
    """ASGI middleware that checks each request and adds ``HEADERS`` to each answer.

    ``names`` are the host names, besides ``localhost`` and plain addresses, under which the page may be requested. So a
    name that an attacker's DNS points at this machine is refused.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str], writes_a_minute: int) -> None:
        self.app, self.names = app, frozenset({"localhost", *(name.lower() for name in names)})
        self.rate = Rate(writes_a_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on HTTP requests that are allowed, and refuse web sockets, which the application does not have."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                added = [(name.encode(), text.encode()) for name, text in HEADERS.items()]
                message["headers"] = [*message["headers"], *(pair for pair in added if pair[0] not in present)]
            await send(message)

        try:
            self._check(scope)
        except RequestError as error:
            await error.response()(scope, receive, send_with_headers)
            return
        await self.app(_without_ranges(scope), receive, send_with_headers)

    def _check(self, scope: Scope) -> None:
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            key = name.decode("latin-1").lower()
            if key in headers and key in ("host", "origin", "content-length"):
                raise RequestError(HTTPStatus.BAD_REQUEST, f"the header {key} is given twice")
            headers[key] = value.decode("latin-1")
        host = self._check_host(headers.get("host", ""))
        method, path = scope["method"], scope["path"]
        if method not in (*_READS, *_WRITES):
            raise RequestError(HTTPStatus.METHOD_NOT_ALLOWED, f"{method} is not used here")
        if any(ord(sign) < 32 or sign in "\\\x7f" for sign in path) or {"", ".", ".."} & set(path[1:].split("/")[:-1]):
            raise RequestError(HTTPStatus.BAD_REQUEST, "not a path of this page")
        if method in _WRITES:
            origin = headers.get("origin")
            if origin is None or origin.lower() != f"{scope['scheme']}://{host}".lower():
                raise RequestError(
                    HTTPStatus.FORBIDDEN,
                    f"only this page itself may change something here: the header Origin is {origin or 'missing'}, "
                    f"and must be {scope['scheme']}://{host}",
                )
            client = scope["client"][0] if scope.get("client") else ""
            if not self.rate.allows(client):
                raise RequestError(HTTPStatus.TOO_MANY_REQUESTS, "too many changes in a short time; wait a few seconds")

    def _check_host(self, host: str) -> str:
        match = _HOST.fullmatch(host)
        if match is None or not (match["name"].lower() in self.names or _is_address(match["name"])):
            raise RequestError(
                HTTPStatus.MISDIRECTED_REQUEST,
                f"this server does not answer to the name {host[:100]!r}; open it by its address, or start it with "
                "--name NAME",
            )
        return host


class Rate:
    """Allows each client ``a_minute`` changes a minute, a quarter of them at once. Remembers the last 1024 clients."""

    def __init__(self, a_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.a_second, self.burst, self.clock = a_minute / 60, max(1.0, a_minute / 4), clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, client: str) -> bool:
        """Whether ``client`` may make a change now. If so, it is counted."""
        now = self.clock()
        left, since = self._left.pop(client, (self.burst, now))
        left = min(self.burst, left + (now - since) * self.a_second)
        allowed = left >= 1
        self._left[client] = (left - 1 if allowed else left, now)
        if len(self._left) > 1024:
            self._left.popitem(last=False)
        return allowed


async def read_body(request: Request, limit: int, content_type: str, seconds: float) -> bytes:
    """Return the body of a request.

    Raises ``RequestError``: 415 if it is not of ``content_type``, 411 without a Content-Length, 413 above ``limit``
    bytes, 408 if it takes longer than ``seconds``, and 400 if it breaks off.
    """
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != content_type:
        raise RequestError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"the body must be {content_type}, not {given[:60] or 'of no type'}"
        )
    announced = request.headers.get("content-length", "")
    if not re.fullmatch("[0-9]{1,15}", announced):
        raise RequestError(HTTPStatus.LENGTH_REQUIRED, "say with Content-Length how long the body is")
    too_large = RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is larger than {limit:,} bytes")
    if int(announced) > limit:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise too_large
    except TimeoutError:
        raise RequestError(
            HTTPStatus.REQUEST_TIMEOUT, f"the body did not arrive within {seconds:g} seconds; send it again"
        ) from None
    except ClientDisconnect:
        raise RequestError(HTTPStatus.BAD_REQUEST, "the body broke off") from None
    if len(body) != int(announced):
        raise RequestError(HTTPStatus.BAD_REQUEST, f"the body broke off after {len(body)} of {announced} bytes")
    return bytes(body)


def _without_ranges(scope: Scope) -> Scope:
    """The request for a part of a file as one for the whole file, which HTTP allows for.

    Nothing here needs parts, and Starlette refuses faulty ranges in its own form, not in that of ``RequestError``;
    before 0.49.1 it also computed for seconds on long lists of them (CVE-2025-62727).
    """
    headers = [(name, value) for name, value in scope["headers"] if name.lower() not in (b"range", b"if-range")]
    return {**scope, "headers": headers}


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
