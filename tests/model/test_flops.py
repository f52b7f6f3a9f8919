"""Counts compared with torch's own counter and with known numbers of the paper's sizes."""

import json
from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mesm_model.batch import FRAMES
from mesm_model.evaluation import flops as counting
from mesm_model.evaluation.flops import Count
from mesm_model.models.common import flops
from mesm_model.models.common.attention import CrossModalAttention, Trace
from mesm_model.models.common.flops import MacCount
from mesm_model.sparse.sites import Sites
from tests.model.narrow import NARROW, batch, build


def test_a_face_and_a_chunk_have_the_known_numbers() -> None:
    face, chunk = (
        sum(part[0] for part in (flops.low_level(modality, 64), flops.dense_blocks(modality, 64))) for modality in "va"
    )
    assert face / 1e9 == pytest.approx(0.4782, abs=5e-5)
    assert chunk / 1e9 == pytest.approx(0.8370, abs=5e-5)
    assert flops.low_level("v", 64)[0] / face == pytest.approx(0.201, abs=5e-4)
    assert flops.low_level("a", 64)[0] / chunk == pytest.approx(0.188, abs=5e-4)


def test_albert_has_the_known_numbers() -> None:
    class Albert:
        hidden_size, num_hidden_layers, intermediate_size, embedding_size = 768, 12, 3072, 128

    found = [flops.text_encoder(torch.tensor([length]), Albert) / 1e9 for length in (14, 50, 100, 300)]
    assert found == pytest.approx([1.19, 4.30, 8.69, 27.17], abs=0.005)


@pytest.mark.parametrize("size", [3, 5])
def test_products_inside_a_frame_are_those_with_a_border_of_ones_that_is_not_counted(size: int) -> None:
    ones, kernel = torch.ones(1, 1, 7, 9), torch.ones(1, 1, size, size)
    inside = torch.nn.functional.conv2d(ones, kernel, padding=size // 2).sum()
    assert flops.convolution(7, 9, 2, 3, size) == (7 * 9 * size**2 * 6, int(inside) * 6)


def test_fe2e_is_counted_as_torch_counts_it(encoder: str) -> None:
    model, stacked = build("fe2e", encoder), batch((2, 3, 5))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # fused on a CPU it is not counted
        model(stacked)
    assert sum(work.macs for work in model.macs(stacked)) == counter.get_total_flops() / 2


def test_padding_of_shorter_utterances_is_not_counted(encoder: str) -> None:
    model = build("fe2e", encoder)
    together = counting.count(model, [batch((2, 1, 4), (5, 3, 9))])
    apart = counting.count(model, [batch((2, 1, 4)), batch((5, 3, 9))])
    assert together == apart


def test_at_p_1_mesm_has_the_products_of_fe2e_inside_its_frames_plus_the_attention(encoder: str) -> None:
    stacked = [batch((2, 3, 5), (1, 0, 4))]
    dense = counting.count(build("fe2e", encoder), stacked)
    sparse = counting.count(build("mesm", encoder, top_p=1.0), stacked)
    for stage in set(counting.STAGES) - {"attention"}:
        assert sparse.macs(stages=[stage], without_padding=True) == dense.macs(stages=[stage], without_padding=True), (
            stage
        )
    assert sparse.macs(stages=["attention"]) > 0 == dense.macs(stages=["attention"])


def test_sparse_convolutions_are_counted_by_the_pairs_of_the_trace(encoder: str) -> None:
    model, stacked, trace = build("mesm", encoder, top_p=0.5).eval(), batch((2, 1, 5)), Trace()
    model(stacked, trace)
    width = model.config.width
    for modality in FRAMES:
        by_hand = sum(
            int(level.pairs.sum()) * (2 * width**2 + 4 * width**2) * 4 ** (level.level - 1)
            for level in trace.levels
            if level.modality == modality
        )
        assert counting.count(model, [stacked]).macs(modality, ["convolution"]) == by_hand


def test_attention_is_counted_as_torch_counts_it(encoder: str) -> None:
    level = build("mesm", encoder, top_p=1.0).frames["v"].levels[0]
    with FlopCounterMode(display=False) as counter:
        level.attention(torch.zeros(2 * 576, 4), Sites.all(2, 24, 24), torch.zeros(1, 128), torch.tensor([0, 0]))
    assert flops.attention(sites=2 * 576, utterances=1, channels=4, query=128) == counter.get_total_flops() / 2


def test_counting_leaves_the_model_as_it_was_but_for_its_mode(encoder: str) -> None:
    model = build("mesm", encoder, top_p=0.5).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    counting.count(model, [batch((2, 1, 5))])
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_the_table_gives_shares_beside_the_papers() -> None:
    counts = {
        name: Count(
            2,
            {"v": 4, "a": 0},
            (MacCount("v", "convolution", macs, macs - 100), MacCount.exact("v", "flatten", 500)),
            p,
        )
        for name, macs, p in (("fe2e", 2_000_000_000, None), ("mesm", 1_000_000_000, 0.7))
    }
    counts["mesm"] = replace(counts["mesm"], dense=counts["fe2e"])
    lines = counting.table(counts).splitlines()
    assert lines[1].split() == ["convolution", "0.5000", "0.0000", "1.0000", "1.0000", "2.0000"]
    heading = lines.index("GFLOP  trunk of 9 faces  paper")
    assert [line.split() for line in lines[heading + 1 : heading + 3]] == [
        ["fe2e", "9.00", "8.65"],
        ["mesm", "4.50", "5.18"],
    ]
    assert lines[heading + 5].split() == ["mesm", "0.500", "0.500", "0.500", "0.500", "0.60"]
    assert lines[-5].startswith("The paper prints 8.65 GFLOPs for FE2E")
    narrow = counting.table({"fe2e": replace(counts["fe2e"], width=8)}).splitlines()
    assert narrow[narrow.index("GFLOP  trunk of 9 faces  paper") + 1].split() == ["fe2e", "9.00", "-"]


def test_json_has_the_multiply_adds_of_a_model_and_of_its_dense_twin() -> None:
    work = (MacCount("v", "convolution", 300, 200),)
    dense = Count(2, {"v": 4, "a": 0}, (MacCount("v", "convolution", 900, 800),), None)
    found = counting.to_json({"mesm": Count(2, {"v": 4, "a": 0}, work, 0.7, "tiny", dense)})
    assert json.loads(json.dumps(found)) == {
        "mesm": {
            "utterances": 2,
            "faces": 4,
            "chunks": 0,
            "top_p": 0.7,
            "text_encoder": "tiny",
            "macs": [{"modality": "v", "stage": "convolution", "macs": 300, "macs_without_padding": 200}],
            "fe2e_macs": [{"modality": "v", "stage": "convolution", "macs": 900, "macs_without_padding": 800}],
        }
    }


def test_the_remark_states_what_a_trunk_can_cost_at_most_at_p_0_1() -> None:
    """A nucleus has at most a tenth of a frame's sites, and each of them nine neighbours."""
    grids = [(24 >> level, 64 << level) for level in range(3)]
    attention = sum(flops.attention(grid**2, 0, channels, 768) for grid, channels in grids)
    most = flops.low_level("v", 64)[0] + attention + flops.dense_blocks("v", 64)[0] / 10
    assert f"{2 * 9 * most / 1e9:.2f}" == "2.54"
    assert "limits the trunk to 2.54" in " ".join(counting.REMARK.split())
    assert counting.PAPER[0.1] > 2.54
    assert all(f"{counting.PAPER[p]:.2f}" in counting.REMARK for p in (0.1, 0.3, 0.5, 0.7, 0.9))


def test_a_count_knows_how_wide_the_model_is(encoder: str) -> None:
    assert counting.count(build("fe2e", encoder), [batch((2, 1, 5))]).width == NARROW["width"]


def test_the_paper_ratios_are_those_of_its_tables() -> None:
    assert counting.PAPER[0.7] / counting.PAPER_FE2E == pytest.approx(0.60, abs=0.005)
    assert counting.PAPER[0.5] / counting.PAPER_FE2E == pytest.approx(0.50, abs=0.005)


def test_the_paper_sizes_of_the_attention_differ_from_the_published_only_by_the_bias_that_does_nothing() -> None:
    with torch.device("meta"):
        sizes = [sum(p.numel() for p in CrossModalAttention(c, 768).parameters()) for c in (64, 128, 256)]
    assert sizes == [53_377 - 1, 114_945 - 1, 262_657 - 1]
