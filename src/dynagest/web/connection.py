"""A connection of the server: how many there may be, and for how long it waits for the other side. Needs no torch.

Whenever it is the client's turn, there is a deadline that nothing but what it waits for ends: the headers of a request
whole, or an answer taken. How long a body may take is for ``guard.read_body`` to say.
"""

from asyncio import TimerHandle
from http import HTTPStatus
from typing import Any

import h11
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from dynagest.web.guard import RequestError

CONNECTIONS = 64  # that are served; as many again are told that there are too many, more are hung up on
HEADER_SECONDS = 10.0  # from the connection to the end of the first headers
KEEP_ALIVE_SECONDS = 15  # from an answer to the end of the next headers; what is left of a body counts for nothing
WRITE_SECONDS = 20.0  # for what is underway, a few hundred kilobytes at most, to be taken


class ImpatientProtocol(H11Protocol):
    """uvicorn's, with deadlines and a cap, and with its refusals in the words of ``RequestError``."""

    _deadline: TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """The first headers are due."""
        super().connection_made(transport)
        if len(self.connections) > 2 * CONNECTIONS:
            transport.abort()
        elif len(self.connections) > CONNECTIONS:
            self.app = _crowded
        self._expect(HEADER_SECONDS)

    def handle_events(self) -> None:
        """Bytes came. When they are a whole request, it is the server's turn."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before and not self.transport.is_closing():
            self._answer()

    def on_response_complete(self) -> None:
        """The next headers are due, and that the answer is taken."""
        self._expect(KEEP_ALIVE_SECONDS)
        super().on_response_complete()

    def pause_writing(self) -> None:
        """The client does not take what is written as fast as it is."""
        super().pause_writing()
        self._expect(WRITE_SECONDS)

    def resume_writing(self) -> None:
        """It has taken nearly all of it."""
        super().resume_writing()
        if not self.cycle.response_complete:
            self._answer()

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()  # in the middle of an answer, or behind one
            return
        answer = _closing(HTTPStatus.BAD_REQUEST, f"this is no request that is understood here: {msg}")
        head = h11.Response(status_code=answer.status_code, headers=answer.raw_headers, reason=b"Bad Request")
        for event in (head, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event))
        self.transport.close()
        self._expect(WRITE_SECONDS)
        if self.cycle is not None:
            self.cycle.disconnected = True  # whoever waits for a body that went wrong has nobody to answer any more

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is due any more."""
        self._expect(None)
        super().connection_lost(exc)

    def _answer(self) -> None:
        # A request behind another one may begin while the answer to that is not taken yet.
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
