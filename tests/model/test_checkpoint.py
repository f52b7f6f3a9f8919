"""A checkpoint comes back as it was saved, is written whole or not at all, and is refused where it does not belong."""

import json
import pickle
import random
import resource
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mesm_data.dataset.reader import Dataset
from mesm_model.models import fe2e
from mesm_model.runs import checkpoint as checkpoints
from mesm_model.runs.checkpoint import Checkpoint, CheckpointError, build_model, check_data, digest_of, load, save
from tests.model.narrow import NARROW, batch


def write_checkpoint(dataset: Dataset, encoder: str, run: Path) -> tuple[Checkpoint, Any]:
    """A checkpoint of an untrained model in the folder `run`, and that model."""
    shutil.copytree(encoder, run / "text")
    config = fe2e.Config(**NARROW | {"text_encoder": "tiny"})
    model = checkpoints.make_model("fe2e", config, run)
    checkpoint = Checkpoint(
        model="fe2e",
        config=vars(config),
        settings={"lr": 0.1},
        data=checkpoints.about(dataset),
        text=checkpoints.text_digests(run),
        thresholds=[0.5, 0.25, 0.75],
        scores={"f1": [0.5, None, 0.25]},
        epoch=3,
        made_with=checkpoints.made_with(),
        weights=model.state_dict(),
    )
    save(run / "best.pt", checkpoint)
    return checkpoint, model


def test_what_was_saved_is_loaded_and_gives_the_same_logits(small: Dataset, encoder: str, tmp_path: Path) -> None:
    saved, model = write_checkpoint(small, encoder, tmp_path / "run")
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    loaded = load(moved)
    assert {k: v for k, v in vars(loaded).items() if k != "weights"} == {
        k: v for k, v in vars(saved).items() if k != "weights"
    }
    some = batch((2, 1, 4), (0, 2, 3))
    assert torch.equal(build_model(loaded, moved)(some), model.eval()(some))
    assert sorted(path.name for path in moved.iterdir()) == ["best.pt", "text"]


@pytest.mark.parametrize("broken", ["cut", "text", "empty"])
def test_a_file_that_is_no_whole_checkpoint_says_so(broken: str, small: Dataset, encoder: str, tmp_path: Path) -> None:
    write_checkpoint(small, encoder, tmp_path / "run")
    path = tmp_path / "run" / "best.pt"
    path.write_bytes({"cut": path.read_bytes()[:5000], "text": b"hello world", "empty": b""}[broken])
    with pytest.raises(CheckpointError, match=r"best.pt: not a whole checkpoint of mesm \("):
        load(path)


def test_a_flipped_bit_is_refused_or_changes_nothing(small: Dataset, encoder: str, tmp_path: Path) -> None:
    saved, _ = write_checkpoint(small, encoder, tmp_path / "run")
    path, expected = tmp_path / "run" / "best.pt", digest_of(vars(saved))
    whole, draw = path.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(60):
        changed = bytearray(whole)
        changed[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        path.write_bytes(changed)
        try:
            assert digest_of(vars(load(path))) == expected  # a byte of the container that holds no value
        except CheckpointError:
            refused += 1
    assert refused > 50


def test_the_digest_tells_values_types_keys_and_shapes_apart() -> None:
    one = torch.arange(6.0)
    values = [{"a": 1}, {"b": 1}, {"a": 1.0}, {"a": "1"}, ["a", 1], [["a"], 1], one, one.view(2, 3), one.int(), None]
    assert len({digest_of(value) for value in values}) == len(values)
    assert digest_of({"a": one[::2]}) == digest_of({"a": one[::2].clone()})


def test_a_changed_tokenizer_is_refused(small: Dataset, encoder: str, tmp_path: Path) -> None:
    saved, _ = write_checkpoint(small, encoder, tmp_path / "run")
    words = tmp_path / "run" / "text" / "tokenizer.json"
    words.write_text(words.read_text().replace('"happy"', '"sappy"', 1) + " ")
    with pytest.raises(CheckpointError, match=r"text/tokenizer.json: changed since training; copy the run again"):
        build_model(saved, tmp_path / "run")
    words.unlink()
    with pytest.raises(CheckpointError, match="tokenizer"):
        build_model(saved, tmp_path / "run")


def test_a_folder_of_several_seeds_names_them(small: Dataset, encoder: str, tmp_path: Path) -> None:
    for seed in (0, 1):
        (tmp_path / "all" / f"seed-{seed}").mkdir(parents=True)
        write_checkpoint(small, encoder, tmp_path / "all" / f"seed-{seed}")
    with pytest.raises(CheckpointError, match=r"all: holds the runs seed-0, seed-1; give one of them, as .*all/seed-0"):
        load(tmp_path / "all")


def test_a_refusal_never_repeats_torchs_advice_to_read_unsafely(tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_text('{"step": 1}')
    with pytest.raises(CheckpointError, match=r"not a whole checkpoint of mesm \(.*\); take another one") as refused:
        load(tmp_path)
    assert "weights_only" not in str(refused.value)


def test_a_full_disk_is_reported_and_leaves_the_older_checkpoint(small: Dataset, encoder: str, tmp_path: Path) -> None:
    saved, _ = write_checkpoint(small, encoder, tmp_path / "run")
    before = (tmp_path / "run" / "best.pt").read_bytes()
    room = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, room[1]))
    try:
        with pytest.raises(
            CheckpointError, match=r"best.pt: cannot be written \(.*File too large.*\); make room, and the"
        ):
            save(tmp_path / "run" / "best.pt", saved)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, room)
    assert (tmp_path / "run" / "best.pt").read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["best.pt", "text"]


def test_a_checkpoint_for_resuming_is_no_model_to_evaluate(small: Dataset, encoder: str, tmp_path: Path) -> None:
    saved, _ = write_checkpoint(small, encoder, tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"last.pt is for resuming and has no thresholds; give best.pt"):
        build_model(replace(saved, thresholds=[]), tmp_path / "run")


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "was here",))

    torch.save({"format": 1, "model": Evil()}, tmp_path / "best.pt")
    with pytest.raises(CheckpointError, match="not a whole checkpoint"):
        load(tmp_path)
    (tmp_path / "best.pt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(CheckpointError, match="not a whole checkpoint"):
        load(tmp_path)
    assert not (tmp_path / "was here").exists()


def test_nothing_where_a_run_should_be_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"best.pt: not found; expected the folder of a run of `mesm train`"):
        load(tmp_path)


def test_weights_of_other_sizes_and_a_lost_encoder_are_refused(small: Dataset, encoder: str, tmp_path: Path) -> None:
    saved, _ = write_checkpoint(small, encoder, tmp_path / "run")
    older = Checkpoint(
        **{**vars(saved), "config": {k: v for k, v in saved.config.items() if k != "positional_encoding"}}
    )
    with pytest.raises(
        CheckpointError, match="a fe2e of another version of mesm, differing in positional_encoding; train again"
    ):
        build_model(older, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "text")
    with pytest.raises(CheckpointError, match="the text encoder of a run lies beside its checkpoint, keep both"):
        build_model(saved, tmp_path / "run")


def test_other_emotions_are_refused_naming_both(
    small: Dataset, other_emotions: Dataset, encoder: str, tmp_path: Path
) -> None:
    saved, _ = write_checkpoint(small, encoder, tmp_path / "run")
    check_data(saved, small, tmp_path)
    with pytest.raises(CheckpointError) as refused:
        check_data(saved, other_emotions, Path("runs/mine"))
    assert "runs/mine was trained for the emotions anger, happiness, sadness, surprise;" in str(refused.value)
    assert str(refused.value).endswith("other has joy, grief")


def test_another_recipe_is_refused_naming_both_and_what_differs(small: Dataset, encoder: str, tmp_path: Path) -> None:
    saved, _ = write_checkpoint(small, encoder, tmp_path / "run")
    index = small.index | {"recipe_digest": "f" * 64, "recipe": small.index["recipe"] | {"sample_rate": 44_100}}
    with pytest.raises(CheckpointError) as refused:
        check_data(saved, Dataset(Path("out/other"), index), Path("runs/mine"))
    message = str(refused.value)
    assert f"of recipe {small.index['recipe_digest'][:12]}" in message
    assert "recipe ffffffffffff: sample_rate 16000 there, 44100 here." in message


def test_a_run_remembers_what_it_was_made_with() -> None:
    made_with = checkpoints.made_with()
    assert made_with["torch"] == torch.__version__.split("+")[0] or torch.__version__.startswith(
        made_with["torch"] or "-"
    )
    assert json.dumps(made_with)
