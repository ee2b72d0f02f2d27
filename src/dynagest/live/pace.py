"""Whether this machine keeps up with its network; told once when it does not."""

from dataclasses import dataclass

from dynagest.live.loop import Look
from dynagest.stream.scores import Scorer
from dynagest.stream.window import WindowScorer

BEGINNING = 2.0  # s of the stream that do not count: the first answers of a network take longer
SPAN = 5.0  # s that are judged together
_MANY = 0.1  # of the answers left out, above which the user is told; fewer are a moment's trouble


@dataclass
class Pace:
    """Looks at what a scorer leaves out in live recognition."""

    scorer: Scorer
    _told: bool = False
    _since: tuple[float, int] | None = None  # when a span began, and what was left out until then

    def add(self, look: Look) -> str:
        """One more look: what the user should know, once, or an empty text."""
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
