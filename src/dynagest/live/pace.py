"""Notices when this machine does not keep up with its network, and tells the user once."""

from dataclasses import dataclass

from dynagest.live.loop import Look
from dynagest.stream.scores import Scorer
from dynagest.stream.window import WindowScorer

BEGINNING = 2.0  # s at the start of a stream that do not count, because the first scores of a network take longer
SPAN = 5.0  # s of the stream that are judged together
_MANY = 0.1  # share of the scores; if more are left out, the user is told, while fewer may be a short disturbance


@dataclass
class Pace:
    """Watches how many scores a scorer leaves out in live recognition."""

    scorer: Scorer
    _told: bool = False
    _since: tuple[float, int] | None = None  # when the span began, and how many scores had been left out by then

    def add(self, look: Look) -> str:
        """Take the next look. Returns the text for the user, once, when too many scores were left out; otherwise ""."""
        if self._told or look.frame is None or look.frame.time < BEGINNING:
            return ""
        now, left_out = look.frame.time, self.scorer.left_out
        begin, before = self._since or (now, left_out)
        if now - begin < SPAN:
            self._since = begin, before
            return ""
        self._since = now, left_out
        rate, missed = self.scorer.rate, (left_out - before) / (now - begin)
        if missed <= _MANY * rate:
            return ""
        self._told = True
        mend = "a smaller network, or one exported with --precision int8"
        if isinstance(self.scorer, WindowScorer):
            mend = "a smaller network, one exported with --precision int8, or a larger --hop"
        return (
            f"this machine manages {rate - missed:.1f} of the {rate:.1f} answers a second that the network is to give, "
            f"so the others are left out; use {mend}"
        )
