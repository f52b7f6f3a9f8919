"""What several model tests share."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mesm_data.dataset.reader import Dataset, load
from mesm_data.synth import planted, synthetic_dataset
from mesm_model.features import extract, store, word_vectors
from mesm_model.models import fe2e
from mesm_model.models.common import text
from mesm_model.runs.distributed import init_distributed
from mesm_model.runs.settings import RunConfig, RuntimeOptions, TrainSettings
from mesm_model.training.train import train
from tests.model.narrow import NARROW

# The matrices of these tests are small, and tests run beside each other: more threads than free cores wait in turn.
torch.set_num_threads(1)

TEXT = "I am so happy that you are here although it was a sad and angry day before and everyone was frustrated"


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a tiny text encoder."""
    folder: Path = tmp_path_factory.mktemp("encoder") / "tiny"
    text.prepare("tiny", [TEXT], folder)
    return str(folder)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A planted dataset of a few utterances: enough to run everything, not to learn from."""
    folder: Path = tmp_path_factory.mktemp("data") / "small"
    planted.write_planted(folder, {"train": 48, "valid": 20, "test": 20})
    return load(folder)


@pytest.fixture(scope="session")
def fe2e_run(small: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a narrow FE2E trained for two epochs, with a name that HTML must escape. Not to be changed."""
    out: Path = tmp_path_factory.mktemp("runs") / "a & <b>"
    config = fe2e.Config(**NARROW | {"emotions": 4, "text_encoder": "tiny"})
    run = RunConfig("fe2e", config, TrainSettings(epochs=2, batch=16, lr=1e-3))
    with init_distributed("cpu") as distributed:
        train(small, run, out, distributed, RuntimeOptions(quiet=True))
    return out


@pytest.fixture(scope="session")
def other_emotions(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two utterances about joy and grief, in the folder "other"."""
    folder: Path = tmp_path_factory.mktemp("data") / "other"

    def sample(rng: np.random.Generator) -> synthetic_dataset.Sample:
        faces, mels = rng.integers(0, 256, (1, 48, 48, 3)), rng.standard_normal((1, 128, 32))
        return synthetic_dataset.Sample((1, 0), "Well.", faces.astype(np.uint8), mels.astype(np.float16))

    synthetic_dataset.write_samples(folder, "other", ("joy", "grief"), {"train": 1, "test": 1}, {"seed": 0}, sample, {})
    return load(folder)


@pytest.fixture(scope="session")
def featured(small: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The small dataset with features."""
    return with_features(small, tmp_path_factory.mktemp("features") / "small")


@pytest.fixture(scope="session")
def learnable(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A planted dataset with features, short vectors of words among them: enough to learn from in seconds."""
    folder: Path = tmp_path_factory.mktemp("learnable")
    planted.write_planted(folder / "data", {"train": 600, "valid": 100, "test": 300})
    told = {word for words in planted.WORDS.values() for word in words}
    word_vectors.write_table(
        folder / "glove.txt", word_vectors.hashed({*told, *planted.FILLERS, *synthetic_dataset.EMOTIONS}, size=32)
    )
    words = extract.FeatureSpec("glove", folder / "glove.txt")
    return with_features(load(folder / "data"), folder / "features", t=words)


def with_features(dataset: Dataset, out: Path, **wanted: extract.FeatureSpec) -> Dataset:
    """With sets that need no file, but for those that are named."""
    usual = {modality: extract.FeatureSpec(name) for modality, name in extract.DEFAULTS.items()}
    extract.make_features(dataset, out, usual | wanted, quiet=True)
    return store.attach(dataset, out)
