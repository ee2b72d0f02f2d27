"""Limits the number of connections, and the time for which each waits for its client. Needs no torch.

Whenever it is the client's turn, a deadline runs. Only complete headers of a request end it, or that the client has
taken the answer; a few bytes do not. ``guard.read_body`` limits the time for a body.
"""

from asyncio import TimerHandle
from http import HTTPStatus
from typing import Any

import h11
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from dynagest.web.guard import RequestError

CONNECTIONS = 64  # that are served; the next 64 are answered with 503, further ones are closed at once
HEADER_SECONDS = 10.0  # from the connection to the end of the first headers
KEEP_ALIVE_SECONDS = 15  # from an answer to the end of the next headers; the rest of an unread body does not extend it
WRITE_SECONDS = 20.0  # in which the client must take what is buffered, a few hundred kilobytes at most


class ImpatientProtocol(H11Protocol):
    """uvicorn's HTTP protocol with deadlines, a cap on connections, and refusals in the form of ``RequestError``."""

    _deadline: TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Refuse a connection beyond the cap, and begin the deadline for the first headers."""
        super().connection_made(transport)
        if len(self.connections) > 2 * CONNECTIONS:
            transport.abort()
        elif len(self.connections) > CONNECTIONS:
            self.app = _crowded
        self._expect(HEADER_SECONDS)

    def handle_events(self) -> None:
        """Handle bytes that came. When the headers of a request are complete, it is the server's turn."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before and not self.transport.is_closing():
            self._answer()

    def on_response_complete(self) -> None:
        """Begin the deadline by which the client must have taken the answer and sent the next headers."""
        self._expect(KEEP_ALIVE_SECONDS)
        super().on_response_complete()

    def pause_writing(self) -> None:
        """The client takes an answer more slowly than it is written: begin the deadline for that."""
        super().pause_writing()
        self._expect(WRITE_SECONDS)

    def resume_writing(self) -> None:
        """The client has taken nearly all that was buffered: end the deadline if the answer goes on."""
        super().resume_writing()
        if not self.cycle.response_complete:
            self._answer()

    def send_400_response(self, msg: str) -> None:
        """Refuse bytes that are not HTTP."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()  # while an answer is being sent, or after it
            return
        answer = _closing(HTTPStatus.BAD_REQUEST, f"this is no request that is understood here: {msg}")
        head = h11.Response(status_code=answer.status_code, headers=answer.raw_headers, reason=b"Bad Request")
        for event in (head, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event))
        self.transport.close()
        self._expect(WRITE_SECONDS)
        if self.cycle is not None:
            self.cycle.disconnected = True  # a handler that still waits for the body sees that the client is gone

    def connection_lost(self, exc: Exception | None) -> None:
        """End the deadline."""
        self._expect(None)
        super().connection_lost(exc)

    def _answer(self) -> None:
        # A pipelined request may begin before the client has taken the answer to the one before.
        self._expect(WRITE_SECONDS if self.flow.write_paused else None)

    def _expect(self, seconds: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self.transport.abort)


async def _crowded(scope: Scope, receive: Receive, send: Send) -> None:
    answer = _closing(
        HTTPStatus.SERVICE_UNAVAILABLE, f"{CONNECTIONS} connections are open, as many as are served; try again later"
    )
    await answer(scope, receive, send)


def _closing(status: HTTPStatus, message: str) -> Any:
    answer = RequestError(status, message).response()
    answer.headers["connection"] = "close"
    return answer
