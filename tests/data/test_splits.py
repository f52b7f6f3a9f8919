"""Every way to split: read, derived, drawn; and what is said when it cannot be done."""

from pathlib import Path

import pytest

from mesm_data.corpora import mosei
from mesm_data.errors import PAPER_DROPS, Issue, SplitError
from mesm_data.splits.expected import ids_digest, read_expected
from mesm_data.splits.split import Splits, make_splits, members
from mesm_data.utterance import Utterance
from tests.data.annotated import iemocap_turn, in_three, mosei_clip, paper_of, publish, small_iemocap, write_lists


def some_videos() -> list[Utterance]:
    """Two good videos of each fold, one misaligned, one in no fold, one whose clip is known to lie after its end."""
    folds = mosei.standard_folds()
    good = [video for split in ("train", "valid", "test") for video in sorted(folds[split])[:2]]
    shifted = sorted(folds["train"])[2]
    clips = [mosei_clip(video, n, start=2.0 * n) for video in [*good, "in-no-fold"] for n in range(3)]
    clips += [mosei_clip(shifted, 0, start=-1.5), mosei_clip(shifted, 1, start=0.5)]
    return [*clips, mosei_clip("HuIKyKkEL0Q", 7, start=40.261)]


def kinds(issues: list[Issue]) -> dict[str, int]:
    names = [issue.kind for issue in issues]
    return {name: names.count(name) for name in sorted(set(names))}


# What the paper's authors published.


def test_the_published_lists_have_the_digests_of_the_manifests(shared: Path) -> None:
    for corpus in ("iemocap", "mosei"):
        for split, digest in read_expected(corpus).digests.items():
            ids = (shared / "published" / corpus / f"{split}.txt").read_text().split()
            assert ids_digest(ids) == digest


def test_the_papers_split_of_mosei_follows_from_the_labels_alone(shared: Path) -> None:
    utterances = mosei.read_labels_csv(shared / "mosei" / "utterances.csv")
    split, issues = make_splits("paper", "mosei", utterances)
    assert {name: len(ids) for name, ids in split.ids.items()} == {"train": 14524, "valid": 1765, "test": 4188}
    assert {name: ids_digest(ids) for name, ids in split.ids.items()} == read_expected("mosei").digests
    assert len(issues) == 23259 - 20477
    assert set(kinds(issues)) == {"no-fold", "negative-start", "after-media-end"}


# Lists.


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Lists over `small_iemocap`, as if the paper had published them; they are in tmp_path/lists, not in the cache."""
    splits = in_three([u.id for u in small_iemocap()])
    publish(tmp_path, paper_of(small_iemocap(), splits), monkeypatch)
    write_lists(tmp_path / "lists", splits)
    return splits


def test_published_lists_make_the_papers_split(tmp_path: Path, listed: dict[str, list[str]]) -> None:
    split, issues = make_splits("paper", "iemocap", small_iemocap(), lists=tmp_path / "lists")
    assert split == Splits("paper", {name: tuple(sorted(ids)) for name, ids in listed.items()})
    assert issues == []


def test_a_partial_copy_keeps_its_part_and_says_what_it_lacks(tmp_path: Path, listed: dict[str, list[str]]) -> None:
    here = [u for u in small_iemocap() if u.id.startswith("Ses02")]
    split, issues = make_splits("paper", "iemocap", here, lists=tmp_path / "lists")
    assert split.scheme == "paper"
    assert sorted(name for ids in split.ids.values() for name in ids) == sorted(u.id for u in here)
    assert len(split.absent) == 240 - 48
    assert issues == []


def test_an_utterance_in_no_list_is_an_issue(tmp_path: Path, listed: dict[str, list[str]]) -> None:
    more = iemocap_turn("Ses01F_impro01_F099")
    _, issues = make_splits("paper", "iemocap", [*small_iemocap(), more], lists=tmp_path / "lists")
    assert issues == [Issue("Ses01F_impro01_F099", "no-split", "in none of the lists train, valid, test")]
    assert "no-split" in PAPER_DROPS


def test_lists_other_than_the_published_ones_are_not_called_the_papers(
    tmp_path: Path, listed: dict[str, list[str]]
) -> None:
    listed["valid"].append(listed["train"].pop())
    write_lists(tmp_path / "lists", listed)
    split, _ = make_splits("paper", "iemocap", small_iemocap(), lists=tmp_path / "lists")
    assert split.scheme == "lists"


def test_without_lists_both_ways_to_get_them_are_named(listed: dict[str, list[str]]) -> None:
    with pytest.raises(SplitError, match="--lists DIR, or fetch them once with `mesm-data splits fetch iemocap`"):
        make_splits("paper", "iemocap", small_iemocap())


def test_lists_in_the_cache_are_used(tmp_path: Path, listed: dict[str, list[str]]) -> None:
    write_lists(tmp_path / "cache" / "mesm" / "splits" / "iemocap", listed)
    assert make_splits("paper", "iemocap", small_iemocap())[0].scheme == "paper"


def test_lists_of_another_corpus_are_refused(tmp_path: Path, listed: dict[str, list[str]]) -> None:
    write_lists(tmp_path / "other", {"train": ["-6rXp3zJ3kc_3"], "valid": ["b_1"], "test": ["Ses01F_impro01_F000"]})
    with pytest.raises(SplitError, match="2 ids are unknown, not of the form of iemocap: -6rXp3zJ3kc_3, b_1"):
        make_splits("paper", "iemocap", small_iemocap(), lists=tmp_path / "other")
    write_lists(tmp_path / "elsewhere", {split: [f"Ses05M_impro08_F{n:03d}"] for n, split in enumerate(listed)})
    with pytest.raises(
        SplitError, match="none of its 3 ids is in this copy of iemocap; the lists hold Ses05M_impro08_F000"
    ):
        make_splits("paper", "iemocap", small_iemocap(), lists=tmp_path / "elsewhere")


def test_lists_go_with_the_papers_split_only(tmp_path: Path) -> None:
    with pytest.raises(SplitError, match="id lists go with the split 'paper', not with 'random'"):
        make_splits("random", "iemocap", small_iemocap(), lists=tmp_path)


# Folds and the cleaning rule.


def test_the_papers_rule_drops_no_fold_misaligned_and_late_clips_of_mosei() -> None:
    split, issues = make_splits("paper", "mosei", some_videos())
    assert {name: len(ids) for name, ids in split.ids.items()} == {"train": 6, "valid": 6, "test": 6}
    assert kinds(issues) == {"after-media-end": 1, "negative-start": 2, "no-fold": 3}


def test_the_official_folds_are_not_cleaned() -> None:
    split, issues = make_splits("official", "mosei", some_videos())
    assert {name: len(ids) for name, ids in split.ids.items()} == {"train": 9, "valid": 6, "test": 6}
    assert {issue.detail for issue in issues} == {"in-no-fold is in no standard fold"}


def test_a_corpus_without_folds_says_what_there_is() -> None:
    with pytest.raises(SplitError, match="iemocap has no official folds; use one of random, grouped, session:N"):
        make_splits("official", "iemocap", small_iemocap())


# Drawn.


@pytest.mark.parametrize("name", ["random", "grouped"])
def test_a_drawn_split_leaves_out_misaligned_videos_and_keeps_those_in_no_fold(name: str) -> None:
    split, issues = make_splits(name, "mosei", some_videos(), seed=3)
    assert split.scheme == f"{name}:3"
    assert kinds(issues) == {"negative-start": 2}
    assert sum(len(ids) for ids in split.ids.values()) == len(some_videos()) - 2
    assert any(name.startswith("in-no-fold") for ids in split.ids.values() for name in ids)


def test_a_session_split_says_session_and_seed() -> None:
    split, issues = make_splits("session:2", "iemocap", small_iemocap(), seed=1)
    assert split.scheme == "session:2:1"
    assert {name[:5] for name in split.ids["test"]} == {"Ses02"}
    assert issues == []


@pytest.mark.parametrize("name", ["randm", "random:1", "paper:1", "session", "session:x", "session:"])
def test_an_unknown_split_is_told_with_the_known_ones(name: str) -> None:
    with pytest.raises(
        SplitError, match=f"split '{name}', expected one of paper, official, random, grouped, session:N"
    ):
        make_splits(name, "iemocap", small_iemocap())


def test_ids_that_stand_twice_in_a_copy_are_told() -> None:
    with pytest.raises(SplitError, match="1 utterance ids occur twice in this copy: Ses01F_impro01_F000"):
        make_splits("random", "iemocap", [*small_iemocap(), small_iemocap()[0]])


def test_no_utterances_cannot_be_split() -> None:
    with pytest.raises(SplitError, match="no utterances to split"):
        make_splits("random", "iemocap", [])


def test_the_digest_of_a_split_depends_on_its_parts_alone() -> None:
    one = Splits("paper", {"train": ("a_1",), "test": ("b_1",)})
    assert one.digest == Splits("official", {"test": ("b_1",), "train": ("a_1",)}, ("c_1",)).digest
    assert one.digest != Splits("paper", {"train": ("b_1",), "test": ("a_1",)}).digest


# Members.


def test_members_tell_what_is_known_and_nothing_else() -> None:
    split = Splits("lists", {"train": ("Ses01F_impro01_M000",), "test": ("Ses05M_script01_1_F002",)})
    turn = iemocap_turn("Ses01F_impro01_M000", "sadness", seconds=2.5, text="")
    known, unknown = members(split, [turn], expected=read_expected("iemocap"))
    assert (known.split, known.text, known.labels, known.seconds) == ("train", None, (0, 0, 0, 0, 0, 1), 2.5)
    assert (unknown.split, unknown.text, unknown.labels, unknown.seconds) == ("test", None, None, None)
    assert (unknown.speaker, unknown.group) == ("Ses05F", "Ses05M_script01_1")
