"""Files: which were not used, and why."""

from __future__ import annotations

from collections import Counter
from typing import Any

from seehear.report.content import Content
from seehear.report.section import Section

LISTED_FILES = 300
"""Files that are listed by name; the counts are always whole."""


def gather(content: Content) -> dict[str, Any] | None:
    """Rejected and failed files; None where neither a manifest nor failures are known."""
    run = content.run
    if not run.videos and not run.failures:
        return None
    rejected = [video for video in run.videos if not video.usable]
    reasons = Counter(video.reason or "unknown" for video in rejected)
    return {
        "count": len(run.videos),
        "rejected": rejected[:LISTED_FILES],
        "rejected_count": len(rejected),
        "rejected_listed": _listed(len(rejected)),
        "reasons": sorted(reasons.items(), key=lambda item: (-item[1], item[0])),
        "failures": run.failures[:LISTED_FILES],
        "failure_count": len(run.failures),
        "failures_listed": _listed(len(run.failures)),
    }


def _listed(count: int) -> str:
    return f"the first {LISTED_FILES:,} of {count:,}" if count > LISTED_FILES else f"{count:,}"


SECTION = Section("files", "Files", gather)
