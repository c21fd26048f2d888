"""What is learnt from names and answers: it agrees with the truth, asks what is uncertain, and keeps its hands off."""

from __future__ import annotations

import numpy as np
import pytest

from seehear.collection.learning import margins, reduced, varied
from seehear.errors import UsageError
from tests.collection.made import cut, made_index, opened, videos
from tests.collection.test_edits import seen


@pytest.fixture
def mixed(tmp_path):
    """Four true classes, five clusters of which the last is a mixture, and a tenth of segments misplaced."""
    segments = cut(videos(40), 1.0)
    truth = (np.asarray(segments.video) % 4).astype(np.int32)
    rng = np.random.default_rng(1)
    cluster = truth.copy()
    cluster[rng.random(len(truth)) < 0.25] = 4
    wrong = rng.random(len(truth)) < 0.1
    cluster[wrong] = rng.integers(0, 4, wrong.sum())
    collection = opened(tmp_path, made_index(segments, truth, cluster, spread=0.35))
    for c in range(4):
        collection.name(c, f"class {c}")
    return collection, truth


def named_right(collection, truth):
    names = np.array([n or "" for n in collection.names])
    return float((names[collection.cluster_of] == np.char.add("class ", truth.astype(str))).mean())


def test_propagation_moves_what_is_likely_and_leaves_what_people_placed(mixed):
    collection, truth = mixed
    placed = np.flatnonzero((truth == 1) & (collection.cluster_of == 1))[:3].tolist()
    collection.move(placed, "class 2")
    out = np.flatnonzero(collection.cluster_of == 4)[:2].tolist()
    collection.reject(out)
    before = named_right(collection, truth)
    edit = collection.propagate(0.6)
    assert edit.text.startswith("moved ") and "segments by what was learnt" in edit.text
    assert named_right(collection, truth) > max(before + 0.15, 0.95)
    assert set(collection.cluster_of[placed]) == {2} and set(collection.rejected) == set(out)
    moved = seen(collection)
    collection.undo()
    assert named_right(collection, truth) == before
    collection.redo()
    assert seen(collection) == moved == seen(opened(collection.run, collection.index))


def test_what_people_said_is_not_is_never_propagated(mixed):
    collection, truth = mixed
    row = int(np.flatnonzero((truth == 0) & (collection.cluster_of == 4))[0])
    collection.answer(row, "class 0", False)
    collection.propagate(0.0)
    assert collection.ids[collection.cluster_of[row]] != "0"


def test_propagation_says_what_it_lacks(tmp_path):
    collection = opened(tmp_path)
    with pytest.raises(UsageError, match="too little"):
        collection.propagate()
    collection.name(0, "a")
    collection.name(1, "b")
    with pytest.raises(UsageError, match="between 0 and 1"):
        collection.propagate(1.5)
    with pytest.raises(UsageError, match="no segment is likelier"):
        collection.propagate(1.0)


def test_review_asks_the_least_certain_first_of_different_videos(mixed):
    collection, truth = mixed
    questions = collection.review(10)
    video = np.asarray(collection.index.segments.video)
    assert len({int(video[q.row]) for q in questions}) == 10
    ahead = [q.probability - q.others[0][1] for q in questions]
    assert ahead == sorted(ahead)
    ids, p = collection.predictions()
    assert ahead[0] == pytest.approx(float(margins(p).min()), abs=1e-6)
    for q in questions:
        assert q.cluster == ids[int(p[q.row].argmax())] and q.probability == pytest.approx(float(p[q.row].max()))
        assert q.probability + sum(o[1] for o in q.others) == pytest.approx(1.0, abs=1e-5)
    for number, q in enumerate(questions):
        right = f"class {truth[q.row]}"
        if collection.cluster(q.cluster).name == right:
            collection.answer(q.row, q.cluster, True)
        elif number % 2:
            collection.answer(q.row, q.cluster, False)
        else:
            collection.move([q.row], right)
    asked = {q.row for q in questions}
    again = collection.review(50)
    open_again = {q.row for q in again} & asked
    assert not any(collection.confirmed[r] for r in open_again)
    for q in again:
        if q.row in open_again:  # answered no: it is asked of another cluster
            assert q.cluster != next(a.cluster for a in questions if a.row == q.row)
    assert all(collection.cluster("class 1").id in (q.cluster, collection.ids[collection.cluster_of[q.row]])
               for q in collection.review(5, cluster="class 1"))  # fmt: skip


def test_threads_may_edit_and_ask_at_once(mixed):
    import threading

    collection, _ = mixed
    failed, rows = [], np.flatnonzero(collection.cluster_of == 4).tolist()

    def work(number):
        try:
            for turn in range(6):
                if number % 2:
                    collection.review(5)
                    collection.answer(rows[6 * number + turn], "class 0", bool(turn % 2))
                else:
                    collection.move([rows[6 * number + turn]], "class 1")
                    collection.undo()
                    try:
                        collection.propagate(0.7)
                    except UsageError:
                        collection.predictions()
                assert len(collection.clusters) >= 4 and len(collection.cluster_of) == len(collection.confirmed)
        except Exception as error:  # noqa: BLE001 - told by the test's own thread
            failed.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failed and not any(t.is_alive() for t in threads)
    assert seen(collection) == seen(opened(collection.run, collection.index))


def test_what_is_learnt_is_the_same_every_time(mixed):
    collection, _ = mixed
    again = opened(collection.run, collection.index)
    assert (collection.predictions()[1] == again.predictions()[1]).all()
    assert collection.review(15) == again.review(15)


def test_before_there_are_names_the_questions_are_about_clusters(tmp_path):
    collection = opened(tmp_path)
    questions = collection.review(8)
    assert len(questions) == 8 and {q.cluster for q in questions} <= {"0", "1", "2", "3"}


def test_segments_without_a_stream_are_learnt_by_the_other(tmp_path):
    segments = cut(videos(20), 1.0)
    truth = (np.asarray(segments.video) % 2).astype(np.int32)
    index = made_index(segments, truth)
    index.space["audio"][::3] = 0.0
    index.labels["both"].cluster[:] = np.where(np.arange(len(truth)) % 5 == 0, -1, truth)
    collection = opened(tmp_path, index)
    assert collection.cluster("unsorted").size == len(truth) // 5
    for c in (0, 1):
        collection.name(c, f"class {c}")
    collection.propagate(0.5)
    assert named_right(collection, truth) > 0.97


def test_axes_are_those_of_principal_components():
    from sklearn.decomposition import PCA

    rng = np.random.default_rng(0)
    x = (rng.normal(size=(300, 10)) * np.arange(1, 11)).astype(np.float32)
    z = reduced({"video": x}, "video", 3)
    theirs = PCA(3, svd_solver="full").fit_transform(x.astype(np.float64))
    ours = z / np.linalg.norm(z, axis=0) * np.sign((z * theirs).sum(axis=0))
    assert np.allclose(ours, theirs / np.linalg.norm(theirs, axis=0), atol=1e-4)
    assert float((z**2).sum(axis=1).mean()) == pytest.approx(1.0, abs=1e-3)


def test_rows_of_different_videos_come_first():
    assert varied(np.arange(6), np.array([0, 0, 1, 1, 2, 0]), 4) == [0, 2, 4, 1]
    assert varied(np.arange(3), np.array([0, 0, 0]), 2) == [0, 1]
