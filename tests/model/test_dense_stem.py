"""The dense stem against plain torch: outputs, gradients, running statistics."""

import pytest
import torch
from torch import Tensor, nn

from mesm_model.models.common.layers import Front
from mesm_model.sparse.dense_stem import NormRelu

LAYOUTS = {"channels first": torch.contiguous_format, "channels last": torch.channels_last}


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("shape", "layout"),
    [((2, 3, 8, 6), "channels last"), ((2, 3, 8, 6), "channels first"), ((1, 1, 2, 2), "channels first"),
     ((3, 5, 7, 5), "channels last"), ((2, 4, 2, 9), "channels first")],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize(
    ("gains", "training"), [("positive", True), ("of both signs", True), ("of both signs", False)], ids=str
)
@pytest.mark.parametrize("pooled", [True, False], ids=["pooled", "not pooled"])
def test_norm_relu_is_norm_then_relu_then_pool(pooled, gains, training, shape, layout):
    channels = shape[1]
    norm, relu, pool = nn.BatchNorm2d(channels).double(), nn.ReLU(), nn.MaxPool2d(2 if pooled else 1)
    norm.weight.data = draw(channels, seed=1).abs() if gains == "positive" else draw(channels, seed=1) - 0.2
    norm.bias.data = draw(channels, seed=2)
    ours = NormRelu(channels, pooled).double()
    ours.load_state_dict(norm.state_dict())
    y = (3 * draw(*shape) + 2).contiguous(memory_format=LAYOUTS[layout]).requires_grad_()
    found, expected = ours.train(training)(y), pool(relu(norm.train(training)(y)))
    weigh = draw(*expected.shape, seed=3)
    torch.testing.assert_close(found, expected, atol=1e-13, rtol=0)
    for one, other in zip(
        torch.autograd.grad((found * weigh).sum(), (y, *ours.parameters())),
        torch.autograd.grad((expected * weigh).sum(), (y, *norm.parameters())),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)
    for one, other in zip(ours.state_dict().values(), norm.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-13, rtol=0)


def test_nan_passes_the_pool():
    y = torch.ones(1, 1, 4, 4)
    y[0, 0, 1, 1] = float("nan")
    assert NormRelu(1, pool=True).train()(y).isnan().any()


def test_without_frames_the_running_statistics_are_not_updated():
    norm = NormRelu(3, pool=True).train()
    before = norm.running_mean.clone(), norm.running_var.clone()
    y = torch.zeros(0, 3, 4, 4, requires_grad=True)
    out = norm(y)
    out.sum().backward()
    assert out.shape == (0, 3, 2, 2)
    assert y.grad is not None
    assert torch.equal(norm.running_mean, before[0])
    assert torch.equal(norm.running_var, before[1])


def test_compiled_it_is_one_graph_with_the_same_statistics():
    torch.manual_seed(0)
    front = Front("v", 4).train()
    frames = torch.randint(0, 256, (3, 3, 48, 48), dtype=torch.uint8)
    found, means = [], []
    for run in (front, torch.compile(front, backend="aot_eager", fullgraph=True)):
        found.append(run(frames))
        means.append(front.layers[1].running_mean.clone())
    torch.testing.assert_close(*found)
    assert (means[1] != means[0]).all()  # the second pass updates them too
