"""Training, evaluating and resuming on a GPU."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mesm_data.dataset.reader import Dataset
from mesm_model.evaluation.evaluate import evaluate
from mesm_model.runs.distributed import init_distributed
from mesm_model.runs.settings import RuntimeOptions, resolve_config
from mesm_model.training.train import train
from tests.model.narrow import batch, build

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def run(
    small: Dataset, model: str, encoder: str, out: Path, device: str = "cuda", watch: Any = None, **settings: Any
) -> dict[str, Any]:
    choice = resolve_config(small, model, {"text_encoder": encoder, "epochs": 3, **settings})
    with init_distributed(device) as ranks:
        return train(small, choice, out, ranks, RuntimeOptions(quiet=True), watch)


@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:0"])
def test_a_gpu_is_found_by_each_of_its_names(device: str) -> None:
    with init_distributed(device) as ranks:
        assert ranks.device == torch.device("cuda", 0)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("model", ["fe2e", "mesm"])
def test_what_a_gpu_trained_scores_the_same_on_the_cpu(
    model: str, precision: str, small: Dataset, encoder: str, tmp_path: Path
) -> None:
    scores = run(small, model, encoder, tmp_path / "run", precision=precision)
    assert scores["splits"]["test"]["utterances"] == 20
    probabilities = []
    for device in ("cuda", "cpu"):
        with init_distributed(device) as ranks:
            probabilities.append(evaluate(tmp_path / "run", small, "test", ranks)[2])
    assert abs(probabilities[0] - probabilities[1]).max() < (0.01 if precision == "fp32" else 0.05)


@pytest.mark.parametrize("model", ["fe2e", "mesm"])
def test_a_stopped_run_resumes_to_the_same_bits_if_deterministic(
    model: str, small: Dataset, encoder: str, tmp_path: Path
) -> None:
    def stop(epochs: int, f1: float) -> None:
        raise KeyboardInterrupt

    whole = run(small, model, encoder, tmp_path / "whole", deterministic=True)
    with pytest.raises(KeyboardInterrupt):
        run(small, model, encoder, tmp_path / "splits", watch=stop, deterministic=True)
    resumed = run(small, model, encoder, tmp_path / "splits", deterministic=True)
    means = [scores["splits"]["test"]["means"] for scores in (whole, resumed)]
    assert means[0] == means[1]


@pytest.mark.parametrize("model", ["fe2e", "mesm"])
def test_a_compiled_model_trains(model: str, small: Dataset, encoder: str, tmp_path: Path) -> None:
    scores = run(small, model, encoder, tmp_path / "run", compile=True)
    assert scores["splits"]["test"]["utterances"] == 20


@pytest.mark.parametrize("sizes", [[(0, 1, 3), (0, 2, 3)], [(1, 0, 3), (2, 0, 3)]], ids=["no faces", "no sound"])
@pytest.mark.parametrize("name", ["fe2e", "mesm"])
def test_a_batch_without_faces_or_without_audio_has_finite_logits_and_gradients(
    name: str, sizes: list[tuple[int, int, int]], encoder: str
) -> None:
    model = build(name, encoder).to("cuda")
    logits = model(batch(*sizes).to("cuda"))
    logits.square().sum().backward()
    assert logits.isfinite().all()


@pytest.mark.parametrize("top_p", [0.5, 1.0])
@pytest.mark.parametrize("gradient", ["straight-through", "gate", "none"])
def test_logits_and_gradients_are_those_of_the_cpu(
    gradient: str, top_p: float, encoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    utterances = batch((2, 1, 4), (0, 3, 9), (4, 0, 3))
    results = []
    for device in ("cpu", "cuda"):
        model = build("mesm", encoder, top_p=top_p, attention_gradient=gradient, dropout=0.0).to(device)
        logits = model(utterances.to(device))
        logits.square().sum().backward()
        results.append([logits.detach().cpu(), *(p.grad.cpu() for p in model.parameters() if p.grad is not None)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-3 * max(1.0, float(one.abs().max())))
