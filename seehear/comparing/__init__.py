"""Which of several finished runs suits a collection, by what can be seen without labels.

`criteria` measures a run by its features, `running` reads the runs, `text` words the table.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from seehear.commands import command
from seehear.comparing import text
from seehear.options import OutFile, Runs

if TYPE_CHECKING:
    from seehear.comparing.running import Comparison


@command(
    "compare",
    group="compare",
    example="seehear compare runs/xdc runs/selavi runs/gdt",
    text=lambda result, _: text.as_text(result),
    as_json=lambda result: result.as_dict(),
)
def compare(runs: Runs, *, labels: OutFile = None, seed: int = 0) -> Comparison:
    """Rank finished runs on the same videos by what sight and sound share, without labels.

    The features of each run are clustered by sight and by sound, at the number of kinds on which both agree best. Runs
    stand in the order of the bits that the two labellings share beyond chance; beside that, how far each number is
    from certain, and two more criteria: clusters found again in other subsets, and clusters by one modality predicted
    from the other in clips held out.

    Args:
        labels: CSV or Parquet with known classes (columns path and label): their NMI is told, and how the ranks agree.
        seed: Seed of every draw.

    Raises:
        UsageError: fewer than two runs, or one that has not learnt from sight and sound.
        RunError: a run is not finished.
        DataError: runs that have too few clips in common.
    """
    from seehear.comparing.running import compare_runs

    return compare_runs([Path(run) for run in runs], labels, seed=seed)
