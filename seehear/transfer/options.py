"""What the protocols on frozen features share: which videos, which encoders, which clips. Imports no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from seehear.errors import UsageError
from seehear.options import Device, LabelColumn, Modality, SplitColumn, option

Paper = Literal["xdc", "gdt", "selavi"]


@dataclass(frozen=True, kw_only=True)
class FrozenOptions:
    """The options of every protocol on frozen features."""

    split: Annotated[
        str | None,
        option("Of several official splits this one (1, 2, ...), or all (default): scores and their mean."),
    ] = None
    folds: Annotated[
        str | None, option("The same for folds: each is the test part in turn; of a table those in the column fold.")
    ] = None
    label_column: LabelColumn = "label"
    split_column: SplitColumn = "split"
    label_separator: Annotated[
        str | None, option("linear: what parts the classes of a video of a table that has several, such as |.")
    ] = None
    modality: Annotated[
        Modality | None,
        option("Encoders to use; by default those that the data set is for (ucf101: video, esc50: audio)."),
    ] = None
    column: Annotated[str | None, option("Column of a file of features, if there are several.")] = None
    clips: Annotated[
        int | None, option("Clips of a video whose features are averaged; 10 by default (linear: 3 parts).")
    ] = None
    pooling: Annotated[
        Literal["mean", "max", "max2"] | None,
        option("mean: the encoders' own features (default); max, max2: maxima of their last maps, of all or by parts."),
    ] = None
    paper: Annotated[
        Paper | None,
        option("Clips, pooling and classifier as this paper has them; what is given besides wins.", name="protocol"),
    ] = None
    window_seconds: Annotated[
        float | None,
        option("audio-linear, and svm with --protocol xdc: seconds of a window of sound.", name="window"),
    ] = None
    baselines: Annotated[bool, option("Score an untrained network and chance too.")] = False
    device: Device = "cpu"

    def __post_init__(self) -> None:
        if self.split is not None and self.folds is not None:
            raise UsageError("splits and folds are the same choice", "give --split or --folds")

    def as_dict(self) -> dict[str, Any]:
        """The options by name."""
        return asdict(self)

    @property
    def of_encoders(self) -> bool:
        """Whether anything is asked for that takes encoders which look at videos."""
        asked = (self.clips, self.pooling, self.paper, self.window_seconds, self.modality)
        return any(x is not None for x in asked)
