"""Annotations in both forms: what is read when, and what is said about files that are not of the form."""

from __future__ import annotations

import json

import pytest

from seehear.errors import DataError, UsageError
from seehear.localization.annotations import Segment, read_annotations


def activitynet(path, **subsets):
    """A JSON file with one video for each subset, named after it; values are lists of (start, end, label)."""
    database = {
        f"in_{subset}": {
            "subset": subset,
            "duration": 60,
            "annotations": [{"segment": [s, e], "label": label} for s, e, label in segments],
        }
        for subset, segments in subsets.items()
    }
    path.write_text(json.dumps({"version": "1", "database": database}))
    return path


def thumos(folder):
    """The two folders as the archives unpack them."""
    train = folder / "TH14_Temporal_annotations_validation" / "annotation"
    test = folder / "TH14_Temporal_Annotations_Test" / "annotations" / "annotation"
    for place in (train, test):
        place.mkdir(parents=True)
    (train / "Diving_val.txt").write_text(
        "video_validation_0000001  10.0 12.5\nvideo_validation_0000001  3.5 4.0\n\nvideo_validation_0000002 1 2\n"
    )
    (train / "CliffDiving_val.txt").write_text("video_validation_0000001  10.0 12.5\n")
    (train / "Ambiguous_val.txt").write_text("video_validation_0000003  10.0 12.5\n")
    (test / "Diving_test.txt").write_text("video_test_0000009  7.1 9.2\n")
    return folder


class TestActivityNet:
    def test_segments_are_read_by_subset_in_the_order_of_time(self, tmp_path):
        segments = [(9.0, 10.0, "b"), (1.5, 2.0, "a")]
        found = read_annotations(activitynet(tmp_path / "a.json", Training=segments, validation=[]))
        assert found.subsets == {"training": ["in_Training"], "validation": ["in_validation"]}
        assert found.segments("training") == {"in_Training": [Segment(1.5, 2.0, "a"), Segment(9.0, 10.0, "b")]}
        assert found.segments("validation") == {"in_validation": []}

    def test_what_ends_before_it_begins_and_what_is_ambiguous_is_left_out(self, tmp_path):
        segments = [(3, 2, "a"), (2, 2, "a"), (4, 5, "Ambiguous"), (6, 7, "a")]
        found = read_annotations(activitynet(tmp_path / "a.json", validation=segments))
        assert found.segments("validation") == {"in_validation": [Segment(6, 7, "a")]}

    def test_a_subset_is_looked_at_when_it_is_asked_for_and_not_before(self, tmp_path):
        path = activitynet(tmp_path / "a.json", training=[(1, 2, "a")], validation=[("nonsense", 2, "a")])
        found = read_annotations(path)
        assert found.roles() == ("training", "validation")
        assert found.segments("training") == {"in_training": [Segment(1, 2, "a")]}
        with pytest.raises(DataError, match=r"in_validation.*nonsense"):
            found.segments("validation")

    @pytest.mark.parametrize(
        "text", ["", "[]", "{}", '{"database": []}', '{"database": {"v": {}}}', '{"database": {"v": 3}}', "\0"]
    )
    def test_another_file_is_refused_with_its_name_and_the_form(self, tmp_path, text):
        path = tmp_path / "a.json"
        path.write_text(text)
        with pytest.raises(DataError, match=r"a\.json") as error:
            read_annotations(path)
        assert "database" in str(error.value.remedy)

    def test_a_missing_file_is_refused(self, tmp_path):
        with pytest.raises(DataError, match="nowhere"):
            read_annotations(tmp_path / "nowhere.json")

    @pytest.mark.parametrize("segment", [[1], [1, "x"], None, [0, float("inf")]])
    def test_a_segment_that_is_none_is_named(self, tmp_path, segment):
        database = {"v": {"subset": "s", "annotations": [{"segment": segment, "label": "a"}]}}
        (tmp_path / "a.json").write_text(json.dumps({"database": database}))
        with pytest.raises(DataError, match="an annotation of v"):
            read_annotations(tmp_path / "a.json").segments("s")


class TestThumos:
    def test_both_folders_are_read_and_a_segment_may_have_two_classes(self, tmp_path):
        found = read_annotations(f"thumos14:{thumos(tmp_path)}")
        assert found.subsets == {
            "validation": ["video_validation_0000001", "video_validation_0000002"],
            "test": ["video_test_0000009"],
        }
        assert found.segments("validation")["video_validation_0000001"] == [
            Segment(3.5, 4.0, "Diving"), Segment(10.0, 12.5, "CliffDiving"), Segment(10.0, 12.5, "Diving"),
        ]  # fmt: skip
        assert found.segments("test") == {"video_test_0000009": [Segment(7.1, 9.2, "Diving")]}
        assert found.roles() == ("validation", "test")

    def test_a_folder_without_annotations_is_refused(self, tmp_path):
        with pytest.raises(DataError, match="holds no annotations of THUMOS14"):
            read_annotations(f"thumos14:{tmp_path}")

    def test_a_bad_line_is_named_with_its_file(self, tmp_path):
        thumos(tmp_path)
        path = next(tmp_path.rglob("Diving_test.txt"))
        path.write_text("video_test_0000009  7.1\n")
        with pytest.raises(DataError, match=r"Diving_test.txt.*video_test_0000009"):
            read_annotations(f"thumos14:{tmp_path}").segments("test")


class TestRoles:
    def roles(self, tmp_path, names, **wishes):
        path = activitynet(tmp_path / "a.json", **{name: [(1, 2, "a")] for name in names})
        return read_annotations(path).roles(**wishes)

    def test_custom_decides(self, tmp_path):
        assert self.roles(tmp_path, ["training", "validation", "testing"]) == ("training", "validation")
        assert self.roles(tmp_path, ["Test", "Validation"]) == ("validation", "test")
        assert self.roles(tmp_path, ["all"]) == ("all", None)

    def test_a_wish_wins(self, tmp_path):
        names = ["training", "validation", "testing"]
        assert self.roles(tmp_path, names, train="Validation", test="testing") == ("validation", "testing")
        assert self.roles(tmp_path, names, train="training") == ("training", None)

    @pytest.mark.parametrize(
        ("names", "wishes"),
        [
            (["a", "b"], {}),
            (["a", "b"], {"train": "c"}),
            (["a", "b"], {"test": "b"}),
            (["a", "b"], {"train": "a", "test": "a"}),
        ],
    )
    def test_what_cannot_be_told_is_asked_for(self, tmp_path, names, wishes):
        with pytest.raises(UsageError):
            self.roles(tmp_path, names, **wishes)
