"""The sections of the page, in the order in which they stand there: a module and a template of the same name each."""

from seehear.report.section import Section
from seehear.report.sections import (
    clusters,
    files,
    filters,
    heads,
    health,
    hypotheses,
    kinds,
    map,
    relations,
    retrieval,
    settings,
    training,
    transfer,
)

SECTIONS: tuple[Section, ...] = (
    clusters.SECTION,
    kinds.SECTION,
    relations.SECTION,
    map.SECTION,
    hypotheses.SECTION,
    heads.SECTION,
    retrieval.SECTION,
    transfer.SECTION,
    training.SECTION,
    health.SECTION,
    filters.SECTION,
    files.SECTION,
    settings.SECTION,
)
