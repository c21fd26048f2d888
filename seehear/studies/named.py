"""The studies by name."""

from __future__ import annotations

import difflib

from seehear.errors import UsageError
from seehear.studies.base import Study
from seehear.studies.clusters import Clusters
from seehear.studies.curation import Curation
from seehear.studies.degraded import Degraded
from seehear.studies.hypotheses import Hypotheses
from seehear.studies.labelling import Labelling
from seehear.studies.methods import Methods
from seehear.studies.shots import Shots

STUDIES: dict[str, Study] = {
    study.name: study for study in (Methods(), Clusters(), Curation(), Labelling(), Degraded(), Hypotheses(), Shots())
}


def study_of(name: str) -> Study:
    """The study of this name; raises `UsageError` with the likeliest ones if there is none."""
    if name not in STUDIES:
        close = difflib.get_close_matches(name, STUDIES, n=3, cutoff=0.4)
        remedy = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(STUDIES)}"
        raise UsageError(f"there is no study {name!r}", remedy)
    return STUDIES[name]
