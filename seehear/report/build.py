"""A run folder to one HTML file: what is read, what is drawn, and how much fits."""

from __future__ import annotations

from pathlib import Path

from seehear.files import check_destination, write_result
from seehear.report import page
from seehear.report.content import Content, Map, display_name
from seehear.report.figures import flat_map
from seehear.report.gather import Run, Video, feature_names, gather, number, read_features
from seehear.report.thumbnails import Progress, Source, make_thumbnails
from seehear.report.truth import read_truth, score

SIZE_BUDGET_BYTES = 12_000_000
MAP_POINTS = 5000


def build_report(
    run_folder: str | Path,
    *,
    truth: str | Path | None = None,
    out: str | Path | None = None,
    exemplars: int = 10,
    size_budget_bytes: int = SIZE_BUDGET_BYTES,
    progress: Progress | None = None,
) -> Path:
    """Write a run's report, one HTML file that needs nothing else, and return its path.

    Args:
        run_folder: what `seehear pretrain` wrote. A run that is not finished gives what it has.
        truth: optional labels of the videos, for purities; by default the manifest's, if it has any.
        out: the file to write; by default `report.html` in the run folder.
        exemplars: videos shown of each cluster, those closest to its centroid.
        size_budget_bytes: the page's size at most. Names and curves come first, thumbnails share the rest.
        progress: called with (what, done, of how many).

    Raises:
        RunError: the folder is not a run, is damaged, or has nothing to show yet.
        DestinationError: the page cannot be written.
    """
    run = gather(run_folder)
    target = Path(out) if out is not None else run.folder / "report.html"
    check_destination(target)
    content = Content(run, exemplars=max(0, exemplars), size_budget_bytes=size_budget_bytes)
    content.truth = read_truth(run, truth)
    if content.truth is not None:
        scored = {name: score(run, labelling, content.truth) for name, labelling in run.labellings.items()}
        content.scores = {name: found for name, found in scored.items() if found is not None}
    content.maps = _maps(run, progress)
    _fit_lists(content)
    wanted = _wanted(content)
    # The page without pictures tells how much room is left for them; each needs some text around it too.
    bare = len(page.render(content).encode("utf-8")) + 600 * _places(content) + 2000
    content.thumbnails = make_thumbnails(wanted, max(0, size_budget_bytes - bare), progress)
    write_result(target, page.render(content))
    return target


def _maps(run: Run, progress: Progress | None) -> list[Map]:
    names = feature_names(run.folder)
    maps = []
    for index, name in enumerate(names):
        if progress is not None:
            progress("maps", index, len(names))
        clips, features, total = read_features(run.folder, name, MAP_POINTS)
        if len(clips) < 3 or features.shape[1] == 0:
            continue
        # A sample of a large set is drawn by PCA: t-SNE of a few of its clips would show false gaps.
        points, method = flat_map(features, MAP_POINTS if total <= MAP_POINTS else 0, _seed(run))
        maps.append(Map(name, method, clips, points, total))
    if progress is not None and names:
        progress("maps", len(names), len(names))
    return maps


def _seed(run: Run) -> int:
    return int(number(run.setting("seed", default=0)) or 0) % 2**32


def _fit_lists(content: Content) -> None:
    """Cap the lists of names, so that they leave at least half of the page to pictures."""
    run = content.run
    if not run.clips or not run.labellings:
        return
    names = sum(len(display_name(run, clip.video_id)) for clip in run.clips[:: max(1, len(run.clips) // 500)])
    per_clip = names / len(run.clips[:: max(1, len(run.clips) // 500)]) + 26 + 14 * len(run.labellings)
    room = content.size_budget_bytes * 0.4 / per_clip
    if len(run.clips) > room:
        count = sum(len(labelling.clusters()) for labelling in run.labellings.values())
        content.list_limit = max(content.exemplars, int(room / max(count, 1)), 1)


def _wanted(content: Content) -> list[tuple[int, Source]]:
    """Clips to show, the closest of every cluster and the most doubtful first: what is cut is cut evenly."""
    run = content.run
    columns = [content.doubted()] + [
        content.best(labelling, cluster) for labelling in run.labellings.values() for cluster in labelling.clusters()
    ]
    order: dict[int, None] = {}
    for rank in range(content.exemplars):
        for column in columns:
            if rank < len(column):
                order[column[rank]] = None
    paths, located, wanted = run.paths, {}, []
    for index in order:
        clip = run.clips[index]
        if clip.video_id not in located:
            located[clip.video_id] = run.locate(paths.get(clip.video_id, clip.video_id))
        video = run.by_id.get(clip.video_id, Video(clip.video_id, clip.video_id))
        source = Source(
            located[clip.video_id], clip.start_seconds, clip.end_seconds, video.identity, video.clock_jumps,
            video.audio_track,
        )  # fmt: skip
        wanted.append((index, source))
    return wanted


def _places(content: Content) -> int:
    clusters = sum(len(labelling.clusters()) for labelling in content.run.labellings.values())
    return clusters * content.exemplars + len(content.doubted())
