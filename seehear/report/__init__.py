"""What a person looks at: one HTML file about a run, with its clusters as moving pictures."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from seehear.commands import command
from seehear.options import OutFile, Run


def _text(page: Path, given: Mapping[str, Any]) -> str:
    return str(page)


@command("report", group="look", example="seehear report runs/a --labels truth.csv", text=_text)
def report(run: Run, *, labels: OutFile = None, out: OutFile = None) -> Path:
    """Write one page to look at: clusters with moving thumbnails and sound, curves, health, a map, filters.

    Returns the path of the page. A run that is not finished gives a page without clusters.

    Args:
        labels: CSV or Parquet with known classes (columns path and label): adds purity and top concepts.
        out: The page; RUN/report.html by default.

    Raises:
        RunError: the folder is not a run, is damaged, or has nothing to show yet.
        DestinationError: the page cannot be written.
    """
    from seehear.progress import Progress
    from seehear.report.build import build_report

    with Progress(quiet=None) as progress:
        return build_report(run, truth=labels, out=out, progress=progress.tasks("done"))


class _CallableModule(ModuleType):
    """Importing this package puts it in the place of the function `seehear.report`, so it does the same when called."""

    def __call__(self, *arguments: Any, **options: Any) -> Path:
        return report(*arguments, **options)


sys.modules[__name__].__class__ = _CallableModule
