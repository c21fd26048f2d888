"""The training loop. `Trainer.run` reads from top to bottom what a run does."""

from __future__ import annotations

import contextlib
import itertools
import signal
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seehear import dist
from seehear.config import Config
from seehear.copies import Host, LateReader
from seehear.data.clips import ClipRequest, Moments, Video, plain_requests, transformation_requests
from seehear.data.columns import ClipTable, VideosById, cut
from seehear.data.supply import Supply
from seehear.engine import checkpoint
from seehear.engine.health import round_health
from seehear.engine.optimiser import FiniteSteps, clip_gradients, load_state, make_optimiser, set_rate, step_if_finite
from seehear.engine.runfolder import RunFolder
from seehear.engine.runlog import RunLog
from seehear.engine.sampling import epoch_steps, labelled_among, split, validation_steps
from seehear.engine.schedule import Stage, learning_rate, stages
from seehear.engine.state import Means, TrainState
from seehear.engine.stop import StopRequest
from seehear.errors import Interrupted, RunError, TrainingError
from seehear.features.bank import FeatureBank, gather_assignment, shared_assignment
from seehear.features.extract import calibrate_batchnorm, extract
from seehear.host import keep_freed_memory
from seehear.methods.base import Method
from seehear.modalities import MODALITIES
from seehear.models import build_encoders
from seehear.models.joint_norm import joint_norms
from seehear.progress import Progress
from seehear.types import Assignment, Batch, ClipRef, Keys, Labelling, StepOutput

# Clips that are looked at to make labels are drawn apart from those that are trained on.
_LABELLING_STREAM = 2
CALIBRATION_CLIPS = 1024


class Trainer:
    """Trains a method on videos and keeps its state in a run folder.

    After `run`, the method's encoders are trained and `state` stands at the end. Every process of a
    distributed run makes one and calls it alike; the first one writes the files.
    """

    def __init__(
        self,
        method: Method,
        videos: Sequence[Video],
        make_loader: Callable[[Config], Supply],
        folder: RunFolder,
        log: RunLog,
        progress: Progress,
        stop: StopRequest,
        *,
        device: torch.device,
        bfloat16: bool,
        after_epoch: Callable[[Mapping[str, Any]], bool] | None = None,
        validation: Collection[str] | None = None,
        title: str = "",
        resume_command: str | None = None,
    ) -> None:
        """`validation` names the videos that are held out, if not a hash of their ids shall choose them; `title`
        goes before what progress shows, and `resume_command` is what a person is told to go on with.
        """
        self.config = method.config
        joint_norms(method, self.config.optim.sync_batchnorm, device)
        self.method = method.to(device)
        self.videos = VideosById(videos)
        self.make_loader = make_loader
        self.folder, self.log, self.progress, self.stop = folder, log, progress, stop
        self.device, self.bfloat16 = device, bfloat16
        self.after_epoch = after_epoch
        self.validation = None if validation is None else frozenset(validation)
        self.title = title
        self.resume_command = resume_command or folder.resume_command
        self.state = TrainState()
        self.assignment: Assignment | None = None
        self.bank: FeatureBank | None = None
        """The latest features of every clip, for a method that takes its labels from training."""
        self.optimiser: torch.optim.Optimizer | None = None
        self.means = Means()
        """Of the epoch under way."""
        self._model: nn.Module = self.method
        self._saved_at = time.monotonic()
        self._late = LateReader(device)
        """What steps come to, read when a GPU has got there; `save` and all that uses it waits for it."""
        self._finite = FiniteSteps(self.warn)
        self._note = ""

    def run(self) -> Supply:
        """Train from where the state stands to the end. Returns the last stage's loader, still open.

        Raises:
            Interrupted: a signal came; the state is saved.
            TrainingError: the loss is not finite, or too many videos cannot be decoded.
        """
        keep_freed_memory()
        loader = None
        for stage in stages(self.config)[self.state.stage :] if self.method.trains else []:
            if loader is None or loader.config.clip != stage.config.clip:
                if loader is not None:
                    loader.close()
                loader = self.make_loader(stage.config)
            every, train, validation = split(self.videos, stage.config, self.validation)
            if not self.state.labelled:
                if stage.relabels:
                    self.relabel(stage, loader, every)
                self.begin_round(stage)
                self.save()
            while self.state.epoch < stage.config.optim.epochs:
                record = self.train_epoch(stage, loader, train, every)
                record |= self.validate(stage, loader, validation)
                record = {"round": stage.index, "epoch": self.state.epoch, **record}
                self.log.record("epoch", self.state.step, **record)
                if self.after_epoch and self.after_epoch(record) and not self.stop:
                    self.stop.signal = signal.SIGUSR1
                self.state.epoch += 1
                self.state.done = 0
                self.state.seconds_data = self.state.seconds_compute = 0.0
                self.means = Means()
                if self.should_stop_early(stage):
                    break
            # The last clustering lies at the end, also at an early one.
            if self.state.relabelled < len(self.relabel_times(stage)):
                self.relabel_within(stage, loader, every, float("inf"))
            self.state = TrainState(stage=stage.index + 1, step=self.state.step, clips_seen=self.state.clips_seen)
            self.save()
        return loader if loader is not None else self.make_loader(stages(self.config)[-1].config)

    # -- the parts of a round -----------------------------------------------------------------------------------

    def relabel(self, stage: Stage, loader: Supply, refs: Sequence[ClipRef]) -> None:
        """Features of every clip with the current encoders, then new pseudo-labels."""
        started = time.monotonic()
        if self.method.needs_features:
            bank = self.labelling_features(stage, loader, refs, f"round {stage.index + 1}: features")
        else:
            bank = _bank_without_features(refs)
        extracted = time.monotonic()
        labellings = self.method.first_labels(bank, self.config.seed * 7919 + stage.index, self.rounds_left(stage))
        if labellings is None:
            return
        previous, self.assignment = self.assignment, gather_assignment(bank, labellings)
        seconds = {
            "seconds_extract": extracted - started,
            "seconds_cluster": time.monotonic() - extracted,
        }
        self.report_round(stage, bank, labellings, previous, seconds)
        self.save_assignment(stage)
        if self.method.labels_from_training:
            self.bank = bank

    def save_assignment(self, stage: Stage) -> None:
        """Keep the stage's latest labels in the run folder."""
        if dist.is_main() and self.assignment is not None:
            self.folder.assignments.mkdir(exist_ok=True)
            self.assignment.save(self.folder.assignments / f"round_{stage.index:03d}.parquet")

    def relabel_times(self, stage: Stage) -> Sequence[float]:
        """When within a stage labels are made anew, in epochs."""
        return self.method.relabel_epochs(stage.config.optim.epochs, self.rounds_left(stage)) if stage.relabels else ()

    def rounds_left(self, stage: Stage) -> int:
        """How many rounds with labels of their own follow a stage."""
        return self.config.rounds - 1 - stage.index

    def relabel_within(self, stage: Stage, loader: Supply, refs: Sequence[ClipRef], now: float) -> None:
        """New labels in the midst of a stage, heads and optimiser staying: all times up to `now` at once."""
        self._late.flush()
        times = self.relabel_times(stage)
        due = sum(t <= now for t in times)
        started = time.monotonic()
        bank = self.bank
        if bank is None:
            try:
                bank = self.labelling_features(stage, loader, refs, f"labels {due}/{len(times)}: features", due)
            except Interrupted:
                self.save()
                dist.barrier("the last save")
                raise
        else:
            self.check_finite(bank)
        self.state.relabelled = due
        extracted = time.monotonic()
        seed = (self.config.seed * 7919 + stage.index) * 1009 + self.state.relabelled
        labellings = self.method.assign(bank, seed=seed)
        if labellings is None:
            return
        previous, made = self.assignment, gather_assignment(bank, labellings)
        # A clip that cannot be decoded any more keeps its labels: the order of clips must not change in an epoch.
        self.assignment = made if previous is None else shared_assignment(lambda: made.over(previous))
        seconds = {"seconds_extract": extracted - started, "seconds_cluster": time.monotonic() - extracted}
        self.report_round(stage, bank, labellings, previous, seconds)
        self.save_assignment(stage)
        if self.method.labels_from_training:
            self.bank = bank

    def labelling_features(
        self, stage: Stage, loader: Supply, refs: Sequence[ClipRef], title: str, count: int = 0
    ) -> FeatureBank:
        """Features to make labels from: of plain clips, or of the transformations that the method asks for.

        `count` is how many times of the stage are past; each draws its own transformations.
        """
        spec = self.method.labelling_hypotheses
        if spec is None:
            return self.features(loader, refs, title)
        seed = (self.config.seed, stage.index, count, _LABELLING_STREAM)
        mine = dist.share(range(len(refs)))
        requests = transformation_requests(
            refs, np.array(mine, dtype=int), self.videos, loader.config.clip, spec, seed, mine[0] if mine else 0,
            Moments.kept(loader.config),
        )  # fmt: skip
        views = spec.transformations_per_sample // len(spec.modalities)
        return self.features(loader, refs, title, requests, views)

    def features(
        self,
        loader: Supply,
        refs: Sequence[ClipRef],
        title: str,
        requests: Sequence[ClipRequest] | None = None,
        views: int = 1,
    ) -> FeatureBank:
        """This process's share of the features of all clips, or those of its `requests` with so many views each."""
        config = loader.config
        encoders = {n: e for n, e in self.method.encoders.items() if MODALITIES[self.method.modalities[n]].stream}
        if requests is None:
            mine = dist.share(refs)
            requests = plain_requests(mine, self.videos, config.clip, config.cluster.averaged_clips)
        when = config.cluster.calibrate_batchnorm
        if when == "always" or (when == "first" and self.state.step == 0):
            chosen = requests[:: max(1, len(requests) // CALIBRATION_CLIPS)]
            calibrate_batchnorm(encoders, loader, chosen, device=self.device, batch_size=config.optim.batch_size)
        # Batch normalisation counts each process's own clips; features must come from one network.
        dist.average_buffers(self.method)
        self.progress.start(title, len(requests), "clips")
        bank = None
        with contextlib.suppress(Interrupted):
            bank = extract(
                encoders,
                loader,
                requests,
                device=self.device,
                bfloat16=self.bfloat16,
                batch_size=config.optim.batch_size,
                folder=self.folder.path / "features" / f"process_{dist.rank()}",
                views=views,
                progress=self.watch,
            )
        # Shares take their own time, and a signal may come to one process: all leave together (what was saved last
        # stands before), or none.
        dist.barrier(title)
        if dist.any_of(bank is None) or bank is None:
            raise self.interrupted()
        self.log_failures(loader)
        self.check_finite(bank)
        return bank

    def check_finite(self, bank: FeatureBank) -> None:
        """Raise `TrainingError`, on every process, if a feature of one of them is not finite: weights have run away.

        Single steps whose gradients are not finite are left out, but one with huge gradients can do it, as where all
        clips are alike and batch normalisation divides by next to nothing.
        """
        found = bank.not_finite()
        if dist.any_of(bool(found), self.device):
            clips = " and ".join(f"{count} clips by {name}" for name, count in found.items())
            raise TrainingError(
                f"the training has diverged: features are not finite ({clips or 'of another process'})",
                "lower optim.base_lr or set optim.clip_gradient_norm=5, and start again; are all videos alike?",
            )

    def watch(self, done: int, total: int) -> None:
        """Progress of extraction; leaves it when a signal came."""
        self.progress.update(done, total)
        if self.stop:
            raise self.interrupted()

    def begin_round(self, stage: Stage) -> None:
        """New heads, a new optimiser."""
        if stage.from_scratch:
            fresh = build_encoders(self.config.model, self.method.modalities, self.config.seed)
            self.method.encoders["video"].load_state_dict(fresh["video"].state_dict())
        self.prepare(stage)
        self.state.labelled = True

    def prepare(self, stage: Stage) -> None:
        """Heads, optimiser and, with several processes, gradient averaging for the labels at hand."""
        generator = torch.Generator().manual_seed(self.config.seed * 104729 + stage.index)
        optim = stage.config.optim
        self.method.start_round(self.assignment.classes if self.assignment else {}, optim, generator)
        self.optimiser = make_optimiser(self.method.parameter_groups(), optim, fused=self.device.type == "cuda")
        # Encoders that a stage leaves out have no gradients.
        self._model = dist.average_gradients(self.method, self.device, find_unused=stage.encoders is not None)

    def train_epoch(self, stage: Stage, loader: Supply, refs: ClipTable, all_refs: Sequence[ClipRef]) -> dict[str, Any]:
        """One epoch of a round on `refs`, from the batch where the state stands. Returns its means and times.

        Where new labels are due within it they are made before the next step, for `all_refs`.
        """
        optim, state = stage.config.optim, self.state
        self.method.begin_epoch(state.epoch, optim.epochs)
        labelled = labelled_among(refs, self.assignment)
        spec = self.method.hypotheses
        fewest = self.method.fewest_clips
        steps = epoch_steps(stage, labelled, self.videos, spec, self.assignment, state.epoch, state.done, fewest)
        self.method.train()
        clips_per_step = optim.batch_size * dist.world_size()
        times = self.relabel_times(stage)
        while state.done < steps.end:
            now = state.epoch + state.done / steps.end
            if state.relabelled < len(times) and times[state.relabelled] <= now:
                self.relabel_within(stage, loader, all_refs, now)
            # Up to the next clustering: no batch is made ready that a change of labels would find on its way.
            later = times[state.relabelled] if state.relabelled < len(times) else float("inf")
            last = next((p for p in steps.after(state.done) if state.epoch + p / steps.end >= later), steps.end)
            mark = time.monotonic()
            self.progress.start(
                f"{self.title}round {stage.index + 1}/{len(stages(self.config))}, "
                f"epoch {state.epoch + 1}/{optim.epochs}",
                steps.end // dist.world_size(), "clips", done=state.done // dist.world_size(),
            )  # fmt: skip
            groups = steps.requests(state.done, last)
            with contextlib.closing(loader.group_batches(groups)) as batches:
                for batch in batches:
                    # Gradients are averaged by all processes together: a step that one of them lacks is none.
                    if dist.any_of(len(batch) < fewest):
                        state.done += steps.size
                        continue
                    # What is waited for while a GPU has work left costs nothing: it is part of computing.
                    ready = mark if self._late.busy else time.monotonic()
                    state.seconds_data += ready - mark
                    lr = learning_rate(optim, state.epoch + state.done / steps.end, clips_per_step)
                    output, norm = self.take_step(stage, loader.to_inputs(batch, self.device), lr)
                    state.step += 1
                    state.done += steps.size
                    state.clips_seen += len(batch) * dist.world_size()
                    self.means.add({"train_loss": output.loss.detach(), **output.parts}, len(batch))
                    mark = state.computed(since=ready)
                    self.read_late(stage, batch, output, norm, lr)
                    mark = state.computed(since=mark)  # a GPU is waited for there
                    self.progress.update(state.done // dist.world_size(), note=self._note)
                    self.save_or_stop()
        self._late.flush()
        self.log_failures(loader)
        return {
            **self.means.values(),
            "learning_rate": learning_rate(optim, state.epoch + steps.last / steps.end, clips_per_step),
            "clips": self.means.count,
            "failed": len(loader.failures.counts),
            "seconds_data": state.seconds_data,
            "seconds_compute": state.seconds_compute,
        }

    def take_step(self, stage: Stage, batch: Batch, lr: float) -> tuple[StepOutput, Tensor]:
        """One step of the optimiser on a batch that lies on the device; also the gradient's norm before clipping."""
        assert self.optimiser is not None
        set_rate(self.optimiser, lr)
        autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)
        with autocast, dist.waiting("the running statistics of the first process"):
            output: StepOutput = self._model(stage.inputs_of(batch), self.targets(batch))
        self.optimiser.zero_grad(set_to_none=True)
        with dist.waiting("the average of the gradients"):
            output.loss.backward()
        norm = clip_gradients(self.method.parameters(), stage.config.optim.clip_gradient_norm)
        step_if_finite(self.optimiser, norm)
        return output, norm

    def read_late(self, stage: Stage, batch: Batch, output: StepOutput, norm: Tensor, lr: float) -> None:
        """Have the step just started looked at: whether it was taken, its features, its line in the log."""
        state, logged = self.state, self.state.step % self.config.log_steps == 0
        seconds = max(state.seconds_data + state.seconds_compute, 1e-9)
        facts = {
            "round": stage.index, "epoch": state.epoch, "learning_rate": lr,
            "clips_per_second": self.means.count * dist.world_size() / seconds,
        }  # fmt: skip
        use = partial(self.step_read, state.step, batch.clip_ids, facts if logged else None)
        features = output.features if self.bank is not None else {}
        self._late.read(use, {"loss": output.loss, "norm": norm}, output.parts if logged else {}, features)

    def step_read(
        self, step: int, clip_ids: Sequence[str], facts: dict[str, Any] | None, found: Host, parts: Host, features: Host
    ) -> None:
        """What a step came to, on the CPU at last; `facts` are what else its line in the log holds, if it has one."""
        if self._finite.taken(found["norm"], step):
            self.keep_features(clip_ids, features)
        loss = float(found["loss"])
        self._note = f"loss {loss:.3f}"
        if facts is not None:
            values = {name: float(value) for name, value in parts.items()}
            self.log.record("step", step, loss=loss, **values, gradient_norm=float(found["norm"]), **facts)

    def keep_features(self, clip_ids: Sequence[str], features: Host) -> None:
        """Remember the features of a batch for the next labels, if they are made from these."""
        if self.bank is not None and features:
            self.bank.update(clip_ids, {name: x.float().numpy() for name, x in features.items()})

    def targets(self, batch: Batch) -> Mapping[str, Tensor]:
        """What a method's loss compares a batch with: pseudo-labels of its clips, or the codes of its views."""
        if self.assignment is None:
            return batch.codes
        return self.assignment.targets(batch.clip_ids, self.device)

    def validate(self, stage: Stage, loader: Supply, refs: ClipTable) -> dict[str, float]:
        """Mean loss and accuracy over the clips of the held-out videos (none: nothing), the same on every process.

        Every process takes every step, with or without a clip of its own: a loss may be one over all of them.
        """
        started = time.monotonic()
        totals = Means()
        self.method.eval()
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            labelled = labelled_among(refs, self.assignment)
            contrastive = self.assignment is None
            steps = validation_steps(stage, labelled, self.videos, self.method.hypotheses, whole_steps=contrastive)
            for batch in loader.group_batches(steps):
                # In a loss over all clips, a process without one takes part if another has one.
                if not (dist.any_of(bool(batch)) if self.method.gathers else batch):
                    continue
                if batch:
                    batch = loader.to_inputs(batch, self.device)
                output = self.method(stage.inputs_of(batch), self.targets(batch) if batch else {})
                self._late.read(partial(self.keep_features, batch.clip_ids), output.features)
                totals.add({"loss": output.loss, **output.parts}, len(batch))
        self._late.flush()
        found = {**totals.values(), **self.method.validated()}
        values = {f"validation_{name}": value for name, value in found.items()}
        if values:
            self.state.validation_losses.append(values["validation_loss"])
            values["seconds_validation"] = time.monotonic() - started
        return values

    def should_stop_early(self, stage: Stage) -> bool:
        """Whether the validation loss has risen so many epochs running (XDC supplement, table 9: e-stop)."""
        rises, losses = stage.config.optim.early_stop_rises, self.state.validation_losses
        if not rises or len(losses) <= rises:
            return False
        recent = losses[-rises - 1 :]
        return all(later > earlier for earlier, later in itertools.pairwise(recent))

    # -- what happens besides -----------------------------------------------------------------------------------

    def warn(self, message: str, step: int | None = None) -> None:
        """Say something now and keep it in the log, after so many steps if not all that there were."""
        if dist.is_main():
            self.progress.note(f"warning: {message}")
        self.log.record("warning", self.state.step if step is None else step, message=message, round=self.state.stage)

    def report_round(
        self,
        stage: Stage,
        bank: FeatureBank,
        labellings: Mapping[str, Labelling],
        previous: Assignment | None,
        seconds: Mapping[str, float],
    ) -> None:
        """Health of the features and of the new clusters, which the first process sees to."""
        if not dist.is_main():
            return
        assert self.assignment is not None
        features = {name: bank.features[name] for name in self.method.encoders if name in bank.features}
        health, warnings, words = round_health(labellings, self.assignment, previous, features)
        for message in warnings:
            self.warn(message)
        values: dict[str, Any] = {**seconds, **health}
        times = len(self.relabel_times(stage))
        if times:
            values["clustering"] = self.state.relabelled
            values["epoch"] = self.state.epoch
        self.log.record("round", self.state.step, round=stage.index, **values)
        rounds = len(stages(self.config))
        if self.method.needs_features and self.state.relabelled in (0, times):  # given classes are no news
            self.progress.note(f"round {stage.index + 1}/{rounds}: {words}")

    def log_failures(self, loader: Supply) -> None:
        """Write down videos that could not be decoded; stop when they are too many."""
        reports, loader.failures.reports = loader.failures.reports, []
        reports = [report for share in dist.all_gather_objects(reports) for report in share]
        self.log.failures(reports, round=self.state.stage, epoch=self.state.epoch)
        for report in reports:
            self.progress.note(f"left out: {report['path']}: {report['reason']}: {report['detail']}")
        failed = int(dist.all_reduce_sum(torch.tensor(len(loader.failures.counts), device=self.device)))
        if failed > self.config.data.max_failed_share * len(self.videos):
            self.save()
            raise TrainingError(
                f"{failed} of {len(self.videos)} videos cannot be decoded, more than data.max_failed_share allows "
                f"({self.config.data.max_failed_share:.0%}); they are listed in {self.folder.failures}",
                "mend or remove them, or raise data.max_failed_share, and resume",
            )

    def save_or_stop(self) -> None:
        """After a step: save when it is time, and stop when a signal came."""
        if dist.any_of(bool(self.stop)):
            self.save()
            dist.barrier("the last save")
            raise self.interrupted()
        if time.monotonic() - self._saved_at > 60 * self.config.checkpoint_minutes:
            self.save()

    def interrupted(self) -> Interrupted:
        return Interrupted(
            f"stopped by {self.stop.name} after step {self.state.step}; the state is saved",
            f"go on with `{self.resume_command}`",
        )

    # -- saving and resuming ------------------------------------------------------------------------------------

    def save(self) -> None:
        """Save everything that `restore` needs."""
        self._late.flush()
        self._saved_at = time.monotonic()
        if not dist.is_main():
            return
        state = {
            "progress": vars(self.state).copy(),
            "means": vars(self.means).copy(),
            "method": self.method.state_dict(),
            "optimiser": self.optimiser.state_dict() if self.optimiser else None,
            "random": torch.get_rng_state(),
            "bank": self.bank_state(),
            "metrics_offset": self.log.offset(),
            "seconds": self.log.seconds,
        }
        checkpoint.save(self.folder.checkpoints, self.state.step, state, self.assignment, self.config.keep_checkpoints)

    def bank_state(self) -> dict[str, Any] | None:
        """The kept features as a checkpoint holds them."""
        if self.bank is None:
            return None
        return {
            "clip_ids": self.bank.clip_ids,
            "features": {name: torch.from_numpy(np.asarray(x)) for name, x in self.bank.features.items()},
        }

    def restore_bank(self, state: dict[str, Any] | None) -> None:
        """Inverse of `bank_state`."""
        if state is None or not self.method.labels_from_training:  # several processes make them from a pass
            return
        spans = cut(self.videos.table, self.config.cluster)
        refs = list(spans.take(Keys(spans.clip_ids).rows(state["clip_ids"])))
        features = {name: x.numpy() for name, x in state["features"].items()}
        self.bank = FeatureBank(refs, features, np.ones(len(refs), dtype=bool))

    def restore(self) -> bool:
        """Go back to the newest saved state; False if there is none."""
        found = checkpoint.load_newest(self.folder.checkpoints)
        steps = dist.all_gather_objects(found and found[0]["progress"]["step"])
        if len(set(steps)) > 1:
            raise RunError(
                f"the processes see different states in {self.folder.checkpoints}: those of steps {steps}",
                "all machines must see the run folder under this path, and what is in it at the same time",
            )
        if found is None:
            self.log.rewind(0, 0.0)
            return False
        state, labels = found
        self.assignment = shared_assignment(lambda: Assignment.load(labels)) if labels is not None else None
        batches = state["progress"].pop("batch", 0)  # earlier versions counted these, by as many processes as now
        self.state = TrainState(**state["progress"])
        if dist.is_main():  # whose they are
            self.means = Means(**state["means"])
        self.restore_bank(state.get("bank"))
        all_stages = stages(self.config)
        if "done" not in state["progress"] and batches:
            batch_size = all_stages[self.state.stage].config.optim.batch_size
            self.state.done = batches * batch_size * dist.world_size()
        if self.state.labelled:
            self.prepare(all_stages[self.state.stage])
        elif self.assignment is not None:
            # Between two rounds the old heads are still part of the method's state.
            self.method.start_round(self.assignment.classes, self.config.optim, torch.Generator())
        self.method.load_state_dict(state["method"])
        if self.state.labelled and self.optimiser is not None and state["optimiser"] is not None:
            load_state(self.optimiser, state["optimiser"])
        torch.set_rng_state(state["random"])
        self.log.rewind(state["metrics_offset"], state["seconds"])
        return True


def _bank_without_features(refs: Sequence[ClipRef]) -> FeatureBank:
    mine = list(dist.share(refs))
    return FeatureBank(mine, {}, np.ones(len(mine), dtype=bool))
