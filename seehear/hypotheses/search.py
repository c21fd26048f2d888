"""Which hypotheses suit a collection: short pretrainings of GDT over every valid combination of some factors.

`seehear.hypotheses.language.enumerate_specifications` gives the combinations, of which those with the same loss are
tried once (Patrick et al., section 3: the valid ones are few enough for a grid search or Bayesian optimisation). Each
is a run folder under `runs/`, so that a search that was killed goes on where it stood; Optuna keeps the study in
`study.db` and proposes what to try next. Nothing here looks at a test split.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from seehear.config import Config
from seehear.data.cache import media_cache
from seehear.data.clips import clip_refs, held_out
from seehear.data.datasets import TRAIN
from seehear.data.loader import workers_of
from seehear.data.manifest import Manifest
from seehear.data.views import Statistics
from seehear.engine import checkpoint
from seehear.engine.device import choose_device
from seehear.engine.runfolder import RunFolder
from seehear.engine.stop import StopRequest
from seehear.errors import DataError, Interrupted, RunError, UsageError
from seehear.features.bank import FeatureBank
from seehear.features.model import Model, usable_videos
from seehear.files import check_destination, write_atomic
from seehear.hypotheses.factors import Hypothesis
from seehear.hypotheses.language import Hypotheses, enumerate_specifications
from seehear.methods import build_method
from seehear.metrics.intervals import bootstrap
from seehear.pretraining.run import pretrain, scan_with_progress
from seehear.progress import Progress
from seehear.recipes import recipe as named_recipe
from seehear.settings import to_dict, with_settings
from seehear.transfer.classifiers import logistic_regression
from seehear.transfer.retrieval import cross_modal_recall

if TYPE_CHECKING:
    import optuna
from seehear.hypotheses.search_result import ABSENT, CRITERIA, Trial, common_epochs, effects, write_results

Criterion = Literal["retrieval", "labels"]
Sampler = Literal["grid", "tpe", "halving"]
Say = Callable[[str], None]
KEEP_ONE_IN = 2
"""Successive halving: which share of the trials goes on from one rung to the next."""
RUNGS = 3
"""Successive halving: trials are compared after 1/4, 1/2 and all of the epochs."""
_MAX_PROPOSALS = 50


def make_search_config(
    *,
    recipe: str = "small",
    seed: int | None = None,
    epochs: int | None = None,
    settings: Iterable[str] = (),
    where: Sequence[str] = (),
) -> Config:
    """A recipe of GDT, shortened to `epochs` together with its warm-up and decay, then changed by `settings`."""
    config = replace(named_recipe(recipe, "gdt"), method="gdt")
    if epochs is not None:
        optim = config.optim
        share = epochs / optim.epochs
        optim = replace(
            optim, epochs=epochs, warmup_epochs=optim.warmup_epochs * share, step_epochs=optim.step_epochs * share
        )
        config = replace(config, optim=optim)
    changes = [f"seed={seed}"] if seed is not None else []
    changes += [f"data.where={json.dumps(list(where))}"] if where else []
    config = with_settings(config, [*changes, *settings])
    config.check()
    return config


def search_hypotheses(
    source: str | Path | Manifest,
    out: str | Path,
    config: Config,
    *,
    factors: Sequence[str] = ("time_shift", "reversal"),
    criterion: Criterion,
    sampler: Sampler = "grid",
    budget: int | None = None,
    label_column: str = "label",
    split_column: str = "split",
    quiet: bool = False,
) -> dict[str, Any]:
    """Pretrain by every valid specification of `factors` (or `budget` of them) and rank them.

    In each specification a factor is absent, distinct, invariant or ignored; `config` says all else and is the
    same for each, the seed too. `criterion` is one of `CRITERIA`; "labels" reads `label_column` of the videos
    whose `split_column` says "train" (of all, if there is no such column). `sampler` is "grid" (all of them, or
    `budget` drawn at random), "tpe" (Optuna's tree-structured Parzen estimator proposes `budget`) or "halving"
    (the better half goes on after 1/4 and 1/2 of the epochs). Called again with the same arguments it goes on;
    only `budget` may change. Returns `trials` (best first), `effects` of the factors and what was asked for, and
    leaves `results.json`, `results.csv`, `results.html` and the Optuna study `study.db` in `out`.

    Raises:
        UsageError: an argument is wrong, or Optuna is not installed.
        DataError: there is no usable video, or none held out.
        RunError: `out` holds a search for something else.
        Interrupted: a signal came; the trial under way is saved.
    """
    started = time.monotonic()
    _check(config, factors, criterion, sampler, budget)
    check_destination(out, folder=True)
    study_of = _optuna()
    specs = enumerate_specifications(list(factors))
    folder = Path(out)
    asked = {
        "factors": list(factors), "criterion": criterion, "sampler": sampler, "label_column": label_column,
        "split_column": split_column, "config": to_dict(config),
    }  # fmt: skip
    stop = StopRequest()
    with Progress(quiet=quiet) as progress, stop.listening():
        manifest = _find_videos(folder, source, config, specs, asked, progress, stop)
        scorer = _Scorer(manifest, config, criterion, label_column, split_column)
        scorer.check()
        _begin(folder, manifest, asked)
        trials = [_trial(spec, factors, folder) for spec in specs]
        if budget is None and sampler == "tpe":
            budget = len(trials)
        number = len(trials) if budget is None else min(budget, len(trials))
        progress.note(
            f"{len(trials)} specifications of {', '.join(factors)} differ; {number} will be tried by {sampler}, "
            f"scored by {criterion} on {scorer.clips} held-out clips"
        )
        search = _Search(study_of(folder), manifest, config, scorer, list(factors), progress, stop)
        try:
            search.run(sampler, trials, number)
        except Interrupted as error:
            raise Interrupted(
                f"{error.message.partition(';')[0]}; the search and its trial are saved",
                "run the same command again: it goes on where it stood",
            ) from None
    tried = [trial for trial in trials if trial.state != "waiting"]
    tried.sort(key=lambda t: (-t.epochs, -t.score, t.details.get("median_rank", 0.0)))
    result = asked | {
        "specifications": len(trials),
        "held_out_clips": scorer.clips,
        "epochs": config.optim.epochs,
        "effects": effects(tried, factors),
        "effects_epochs": common_epochs(tried),
        "trials": [asdict(t) for t in tried],
        "seconds": time.monotonic() - started,
    }
    write_results(folder, result, tried)
    return result


def _check(config: Config, factors: Sequence[str], criterion: str, sampler: str, budget: int | None) -> None:
    if config.method != "gdt":
        raise UsageError(f"hypotheses are of gdt, not of {config.method}", "leave method as it is")
    if criterion not in CRITERIA:
        raise UsageError(f"there is no criterion {criterion!r}", f"choose one of {', '.join(CRITERIA)}")
    if sampler not in get_args(Sampler):
        raise UsageError(f"there is no sampler {sampler!r}", f"choose one of {', '.join(get_args(Sampler))}")
    if not factors or len(set(factors)) < len(factors):
        raise UsageError("name each factor to search over once", "for example --factors time_shift,reversal")
    if budget is not None and budget < 1:
        raise UsageError("a search needs a budget of at least one trial")
    if config.data.validation_share == 0:
        raise UsageError("nothing is held out to score by", "set data.validation_share=0.2 or so")
    config.check()


def _optuna() -> Callable[[Path], optuna.Study]:
    """A function that opens the study of a folder; `UsageError` if Optuna is missing."""
    try:
        import optuna
    except ImportError as error:
        raise UsageError(
            f"a search needs Optuna, which cannot be imported ({error})", "python -m pip install 'seehear[search]'"
        ) from None

    def study_of(folder: Path) -> optuna.Study:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        return optuna.create_study(
            storage=f"sqlite:///{folder / 'study.db'}", study_name="hypotheses", direction="maximize",
            load_if_exists=True,
        )  # fmt: skip

    return study_of


def _find_videos(
    folder: Path,
    source: str | Path | Manifest,
    config: Config,
    specs: Sequence[Hypotheses],
    asked: Mapping[str, Any],
    progress: Progress,
    stop: StopRequest,
) -> Manifest:
    """Scan the videos, or find them as a search that is under way left them; writes nothing."""
    settings, kept = folder / "search.json", folder / "manifest.parquet"
    if settings.exists():
        before = json.loads(settings.read_text(encoding="utf-8"))
        differing = [name for name, value in json.loads(json.dumps(asked)).items() if before.get(name) != value]
        if differing:
            raise RunError(
                f"{folder} holds a search with other options: {', '.join(differing)}",
                "give the same options to go on with it, or choose another --out",
            )
        return Manifest.load(kept)
    if folder.exists() and any(folder.iterdir()):
        raise RunError(f"{folder} is not empty and holds no search", "choose another --out")
    if isinstance(source, Manifest):
        manifest = source
    else:
        # All specifications must learn from the same videos: those long enough for the fastest playback.
        fastest = max(specs, key=lambda s: s.fastest)
        manifest = scan_with_progress(source, _config_of(config, str(fastest)), progress, stop)
    for condition in config.data.where:
        manifest = manifest.where(condition)
    progress.note(manifest.summary_text())
    if not manifest.usable_rows():
        raise DataError("no usable video", "the reasons are above, file by file in a manifest: seehear scan --out")
    return manifest


def _begin(folder: Path, manifest: Manifest, asked: Mapping[str, Any]) -> None:
    """Make the folder of a search, if it is new: nothing that can fail for its options comes after."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "search.json").exists():
        manifest.save(folder / "manifest.parquet")
        write_atomic(folder / "search.json", json.dumps(asked, indent=1))


def _config_of(config: Config, specification: str) -> Config:
    return replace(config, gdt=replace(config.gdt, hypotheses=specification))


def _trial(spec: Hypotheses, factors: Sequence[str], folder: Path) -> Trial:
    choices = {f: str(spec[f].hypothesis) if f in spec else ABSENT for f in factors}
    name = "_".join(f"{f}-{c}" for f, c in choices.items() if c != ABSENT) or "none"
    return Trial(str(spec), choices, str(folder / "runs" / name))


def _drawn(trials: list[Trial], count: int, seed: int) -> list[Trial]:
    """All of them, or `count` at random; a larger count holds those of a smaller one."""
    if count == len(trials):
        return trials
    order = np.random.default_rng(seed).permutation(len(trials))[:count]
    return [trials[i] for i in sorted(order)]


class _Scorer:
    """What a model knows about the held-out clips."""

    def __init__(self, manifest: Manifest, config: Config, criterion: str, label_column: str, split_column: str):
        self.config, self.criterion = config, criterion
        self.videos = usable_videos(manifest, ("video", "audio"))
        self.labels: dict[str, str] = {}
        if criterion == "labels":
            if label_column not in manifest.extra_columns:
                raise UsageError(
                    f"the videos have no column {label_column!r} to score by",
                    "give a table with it, name it by --label-column, or score by retrieval",
                )
            labels = {v: str(c) for v, c in manifest.by_id(label_column).items() if c not in (None, "")}
            if split_column in manifest.extra_columns:
                splits = manifest.by_id(split_column)
                labels = {v: c for v, c in labels.items() if splits[v] == TRAIN}
            self.labels = labels
            self.videos = [v for v in self.videos if v.video_id in labels]
        share = config.data.validation_share
        self.held = {v.video_id for v in self.videos if held_out(v.video_id, share)}
        if criterion == "retrieval":
            self.videos = [v for v in self.videos if v.video_id in self.held]
        self.refs = clip_refs(self.videos, config.cluster)
        self.clips = sum(r.video_id in self.held for r in self.refs)

    def check(self) -> None:
        """Raise `DataError` if the held-out clips are too few to score anything by."""
        if self.clips < 2:
            raise DataError(
                f"{self.clips} clips are held out, which tell nothing", "raise data.validation_share, or add videos"
            )
        if self.criterion == "labels" and len({c for v, c in self.labels.items() if v not in self.held}) < 2:
            raise DataError("the videos that are learnt from have fewer than two classes")

    def score(self, model: Model, progress: Callable[[int, int], None] | None = None) -> dict[str, float]:
        """`value`, `low`, `high`, `chance` of the criterion, and further numbers."""
        bank = model.extract(
            self.videos, self.refs, workers=workers_of(self.config), cache=media_cache(self.config),
            device=choose_device(self.config.device), progress=progress,
        )  # fmt: skip
        return self._labels(bank) if self.criterion == "labels" else self._retrieval(model, bank)

    def _retrieval(self, model: Model, bank: FeatureBank) -> dict[str, float]:
        shared = model.project(bank)
        found = cross_modal_recall(shared["audio"], shared["video"], (1, 5), ("audio", "video"))
        one, other = found["audio->video"], found["video->audio"]
        more = {"R@1 video->audio": other["recall"]["R@1"]["value"], "median_rank": one["median_rank"]}
        more |= {f"{k} audio->video": entry["value"] for k, entry in one["recall"].items() if k != "R@1"}
        return dict(one["recall"]["R@1"]) | more

    def _labels(self, bank: FeatureBank) -> dict[str, float]:
        x = bank.joined("video+audio")
        classes = np.array([self.labels[r.video_id] for r in bank.refs])
        held = np.array([r.video_id in self.held for r in bank.refs])
        answers = logistic_regression(x[~held], classes[~held], x[held])
        right = (answers.classes["accuracy"][0, :, 0] == classes[held]).astype(float)
        low, high = bootstrap(right)
        names, counts = np.unique(classes[~held], return_counts=True)
        commonest = float((classes[held] == names[counts.argmax()]).mean())
        return {"value": float(right.mean()), "low": low, "high": high, "chance": commonest}


def _model_of(folder: RunFolder) -> Model:
    """The model of a finished run, or that of the state in which an unfinished one was saved."""
    if folder.finished:
        return Model.load(folder.path)
    found = checkpoint.load_newest(folder.checkpoints)
    if found is None:
        raise RunError(f"{folder.path} has no saved state", "delete that folder and run the search again")
    method = build_method(folder.load_config())
    method.load_state_dict(found[0]["method"])
    statistics = Statistics.from_dict(json.loads(folder.statistics.read_text()))
    return Model(
        method.config, method.modalities, dict(method.encoders.items()), statistics,
        projections=dict(method.projections.items()),
    )  # fmt: skip


class _Search:
    """Runs trials and keeps the study; what a trial has reached stands in its run folder."""

    def __init__(
        self,
        study: optuna.Study,
        manifest: Manifest,
        config: Config,
        scorer: _Scorer,
        factors: list[str],
        progress: Progress,
        stop: StopRequest,
    ) -> None:
        self.study, self.manifest, self.config, self.scorer = study, manifest, config, scorer
        self.factors, self.progress, self.stop = factors, progress, stop

    def grid(self, trials: Sequence[Trial]) -> None:
        """Every trial, to the end."""
        for number, trial in enumerate(trials, 1):
            self.reach(trial, self.config.optim.epochs)
            self.close(trial, "complete", f"{number}/{len(trials)}")

    def halving(self, trials: Sequence[Trial]) -> None:
        """All trials to a share of the epochs, the better half of them to twice as many, and so on."""
        total, going = self.config.optim.epochs, list(trials)
        shares = [math.ceil(total / KEEP_ONE_IN**rung) for rung in reversed(range(RUNGS))]
        for epochs in sorted(set(shares)):
            for trial in going:
                self.reach(trial, epochs)
            going.sort(key=lambda t: (-t.score, t.details.get("median_rank", 0.0)))
            if epochs < total:
                last = going[math.ceil(len(going) / KEEP_ONE_IN) :]
                going = going[: len(going) - len(last)]
                for trial in last:
                    self.close(trial, "pruned", f"after {epochs} of {total} epochs")
        for trial in going:
            self.close(trial, "complete", "to the end")

    def run(self, sampler: Sampler, trials: list[Trial], number: int) -> None:
        """Try `number` of the trials as the sampler has it."""
        if sampler == "tpe":
            self.tpe(trials, number)
        elif sampler == "halving":
            self.halving(_drawn(trials, number, self.config.seed))
        else:
            self.grid(_drawn(trials, number, self.config.seed))

    def tpe(self, trials: Sequence[Trial], budget: int) -> None:
        """What Optuna proposes, one after another, until `budget` different ones are done."""
        known = {t.user_attrs.get("specification") for t in self.study.get_trials(deepcopy=False)}
        done = [trial for trial in trials if trial.specification in known]
        for trial in done:
            self.reach(trial, self.config.optim.epochs)
            trial.state = "complete"
        while len(done) < budget:
            trial = self._proposed(trials, [t.specification for t in done])
            self.reach(trial, self.config.optim.epochs)
            done.append(trial)
            self.close(trial, "complete", f"{len(done)}/{budget}")

    def _proposed(self, trials: Sequence[Trial], done: Sequence[str]) -> Trial:
        """A trial that is not done yet.

        Proposed by a study in memory, seeded by how many are done: a search that was killed proposes again what it
        was at, and what cannot be tried leaves no trace in the study on disk.
        """
        import optuna

        by_choices = {tuple(t.choices.values()): t for t in trials if t.specification not in done}
        sampler = optuna.samplers.TPESampler(
            seed=self.config.seed * 10007 + len(done), n_startup_trials=max(3, len(trials) // 4)
        )
        rehearsal = optuna.create_study(direction="maximize", sampler=sampler)
        rehearsal.add_trials(self.study.get_trials())
        for _ in range(_MAX_PROPOSALS):
            asked = rehearsal.ask(self._distributions())
            found = by_choices.get(tuple(asked.params[f] for f in self.factors))
            if found is not None:
                return found
            # Not valid, the same as another, or done: no score, so that the sampler learns nothing wrong from it.
            rehearsal.tell(asked, state=optuna.trial.TrialState.FAIL)
        return next(iter(by_choices.values()))

    def _distributions(self) -> dict[str, optuna.distributions.BaseDistribution]:
        import optuna

        options = (ABSENT, *get_args(Hypothesis))
        return {f: optuna.distributions.CategoricalDistribution(options) for f in self.factors}

    def reach(self, trial: Trial, epochs: int) -> None:
        """Pretrain a trial up to so many epochs and score it there, unless that is done."""
        folder = RunFolder(Path(trial.run))
        kept = folder.path / "scores.json"
        scores: dict[str, dict[str, float]] = json.loads(kept.read_text()) if kept.exists() else {}
        if str(epochs) not in scores:
            self._train(trial, folder, epochs)
            scores[str(epochs)] = self.scorer.score(_model_of(folder), self._watch)
            write_atomic(kept, json.dumps(scores, indent=1))
        found = dict(scores[str(epochs)])
        trial.epochs, trial.score = epochs, found.pop("value")
        trial.low, trial.high, trial.chance = (found.pop(name) for name in ("low", "high", "chance"))
        trial.details = found
        trial.by_epochs[epochs] = trial.score

    def _watch(self, *_: int) -> None:
        """Leave what is not training when a signal came; training looks after itself."""
        if self.stop:
            raise Interrupted(f"stopped by {self.stop.name}")

    def _train(self, trial: Trial, folder: RunFolder, epochs: int) -> None:
        self._watch()
        if folder.finished:
            return
        begun, total = folder.config.exists() and folder.manifest.exists(), self.config.optim.epochs
        if not begun and folder.path.exists():
            shutil.rmtree(folder.path)  # killed while it was made
        if epochs < total and begun and _epochs_of(folder) >= epochs:
            return  # it stopped there, and was killed before it was scored
        stopped = False

        def enough(record: Mapping[str, Any]) -> bool:
            nonlocal stopped
            self.progress.update(record["epoch"] + 1)
            stopped = epochs < total and record["epoch"] + 1 >= epochs
            return stopped

        self.progress.start(trial.name, epochs, "epochs", _epochs_of(folder) if begun else 0)
        try:
            pretrain(
                None if begun else self.manifest,
                folder.path,
                # Conditions on rows have been applied to the manifest.
                replace(_config_of(self.config, trial.specification), data=replace(self.config.data, where=())),
                resume=begun,
                quiet=True,  # there can be one bar at a time
                after_epoch=enough,
            )
        except Interrupted:
            if not stopped:
                raise

    def close(self, trial: Trial, state: Literal["complete", "pruned"], where: str) -> None:
        """Enter a trial that is over into the study, once."""
        import optuna

        trial.state = state
        known = {t.user_attrs.get("specification") for t in self.study.get_trials(deepcopy=False)}
        if trial.specification not in known:
            self.study.add_trial(
                optuna.trial.create_trial(
                    state=optuna.trial.TrialState.COMPLETE if state == "complete" else optuna.trial.TrialState.PRUNED,
                    value=trial.score,
                    params=dict(trial.choices),
                    distributions=self._distributions(),
                    intermediate_values=dict(trial.by_epochs),
                    user_attrs={"specification": trial.specification, "run": trial.run},
                )
            )
        self._tell(trial, where)

    def _tell(self, trial: Trial, where: str) -> None:
        self.progress.note(f"{where}: {trial.name}: {trial.score:.3f} ({trial.state})")


def _epochs_of(folder: RunFolder) -> int:
    """Epochs that the newest saved state of an unfinished run has behind it."""
    found = checkpoint.load_newest(folder.checkpoints)
    if found is None:
        return 0
    where = found[0]["progress"]
    return int(where["epoch"])
