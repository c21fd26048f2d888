"""Whether a run is well, in a word."""

from __future__ import annotations

from dataclasses import dataclass

from seehear.report.gather import Run


@dataclass(frozen=True)
class Verdict:
    """What stands first on the page."""

    level: str
    """"good", "doubt" or "bad": a class of style.css."""
    word: str
    detail: str = ""


def verdict(run: Run) -> Verdict:
    """From the run's own warnings."""
    messages = [str(w.get("message", "")) for w in run.metrics.warnings]
    fallen = next((m for m in messages if "collapse" in m.lower()), None)
    if fallen is not None:
        head, _, rest = fallen.partition(":")
        return Verdict(
            "bad", "collapse", rest.strip() if head.strip().lower() == "collapse" and rest.strip() else fallen
        )
    if messages:
        return Verdict("doubt", "look closer", messages[-1])
    if run.metrics.end is None:
        return Verdict("doubt", "not finished", "the run has not written its end; what follows is how far it came")
    return Verdict("good", "healthy")
