"""Batches: packing, padding, and what is refused at the door."""

import pickle
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler

import pytest
import torch

from mesm_data.errors import DataError
from mesm_model.batch import collate, owners, pad
from tests.model import two_phase
from tests.model.narrow import batch, example


def test_collate_stacks_the_utterances_in_their_order() -> None:
    examples = [example(0, faces=2, mels=3, tokens=4), example(1, faces=0, mels=1, tokens=6)]
    stacked = collate(examples)
    assert stacked.ids == ("u0", "u1")
    assert stacked.texts == ("text 0", "text 1")
    assert stacked.face_counts.tolist() == [2, 0]
    assert stacked.mel_counts.tolist() == [3, 1]
    assert stacked.token_counts.tolist() == [4, 6]
    assert torch.equal(stacked.faces, examples[0].faces)
    assert torch.equal(stacked.mels[3:], examples[1].mels)
    assert torch.equal(stacked.tokens[4:], examples[1].tokens)
    assert torch.equal(stacked.labels[1], examples[1].labels)


def test_frames_are_found_by_their_modality() -> None:
    stacked = batch((2, 3, 4))
    assert [len(stacked.frames(modality)[0]) for modality in "va"] == [2, 3]
    assert [stacked.frames(modality)[1].tolist() for modality in "va"] == [[2], [3]]


@pytest.mark.parametrize("counts", [[3, 1, 2], [0, 2, 0], [0, 0], [1], [5]])
def test_padding_puts_every_row_where_a_loop_would(counts: list[int]) -> None:
    rows = torch.randn(sum(counts), 2)
    padded, present = pad(rows, torch.tensor(counts), fill=7)
    assert padded.shape == (len(counts), max(counts), 2)
    for utterance, own in enumerate(rows.split(counts)):
        assert torch.equal(padded[utterance, : len(own)], own)
        assert (padded[utterance, len(own) :] == 7).all()
        assert present[utterance].tolist() == [True] * len(own) + [False] * (max(counts) - len(own))


def test_padding_keeps_whole_numbers_whole() -> None:
    padded, _ = pad(torch.tensor([5, 6, 7]), torch.tensor([1, 2]), fill=3)
    assert padded.tolist() == [[5, 3], [6, 7]]


def test_padding_passes_gradients_to_the_rows_alone() -> None:
    rows = torch.ones(3, requires_grad=True)
    padded, _ = pad(rows, torch.tensor([1, 2]))
    (padded * torch.tensor([[2.0, 5.0], [3.0, 4.0]])).sum().backward()
    assert rows.grad is not None
    assert rows.grad.tolist() == [2, 3, 4]


def test_owners_name_the_utterance_of_each_row() -> None:
    assert owners(torch.tensor([2, 0, 1]), torch.device("cpu")).tolist() == [0, 0, 2]


def test_moving_a_batch_leaves_its_counts_on_the_cpu() -> None:
    moved = batch((1, 1, 3)).to("meta")
    assert {moved.faces.device.type, moved.mels.device.type, moved.tokens.device.type} == {"meta"}
    assert moved.face_counts.device.type == "cpu"


def test_a_batch_is_pickled_by_value_with_its_features() -> None:
    """Not through shared memory, as torch pickles tensors for another process."""
    for one in (batch((2, 1, 4), (0, 3, 2)), two_phase.batch(*two_phase.LENGTHS)):
        back = pickle.loads(bytes(ForkingPickler.dumps(one)))
        assert back.ids == one.ids
        assert all(
            torch.equal(getattr(back, name), getattr(one, name)) for name in ("tokens", "faces", "mels", "labels")
        )
        for name, (rows, counts) in one.features.items():
            assert torch.equal(back.features[name][0], rows)
            assert torch.equal(back.features[name][1], counts)
    assert len(bytes(ForkingPickler.dumps(batch((9, 0, 1))))) > 9 * 48 * 48 * 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"faces": torch.zeros(2, 3, 64, 64)}, "faces of shape [2, 3, 64, 64], expected [any, 3, 48, 48]"),
        ({"mels": torch.zeros(2, 128, 32)}, "mels of shape [2, 128, 32], expected [any, 1, 128, 32]"),
        ({"face_counts": torch.tensor([1])}, "found 2 faces, expected 1, the sum of their counts"),
        ({"face_counts": torch.tensor([1, 1])}, "counts of faces of shape [2], expected [1]"),
        ({"token_counts": torch.tensor([-1])}, "found a negative count of tokens, expected 0 or more"),
        ({"labels": torch.zeros(2, 3)}, "labels of shape [2, 3], expected [1, any]"),
        ({"texts": ()}, "found 0 texts, expected 1, one per utterance"),
        ({"ids": ()}, "found an empty batch, expected at least one utterance"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused_in_words(changes: dict, message: str) -> None:
    with pytest.raises(DataError) as refused:
        replace(batch((2, 2, 4)), **changes)
    assert message in str(refused.value)
