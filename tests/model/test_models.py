"""Models are found by file name, fit the interface, and have presets of settings that exist."""

from dataclasses import asdict, fields

import pytest

from mesm_data.errors import DataError
from mesm_model import models
from mesm_model.models import emoembs, fe2e, lf_lstm, lf_trans, mesm, mult
from mesm_model.models.common.interface import HasEmotionVectors, Model, ReadsFeatures, ReadsText, SelectsSites
from mesm_model.models.common.interface import encoder_description as described
from mesm_model.models.common.two_phase import is_two_phase
from mesm_model.runs.settings import TrainSettings
from tests.model import narrow, two_phase

KINDS: list[type[Model]] = [
    emoembs.Model,
    fe2e.Model,
    lf_lstm.Model,
    lf_trans.Model,
    mesm.Model,
    mult.Model,
]  # for mypy


def test_a_model_is_a_file_and_a_folder_is_none() -> None:
    assert models.names() == ["emoembs", "fe2e", "lf-lstm", "lf-trans", "mesm", "mult"]
    assert [models.load(name).Model for name in models.names()] == KINDS


def test_protocols_are_fitted_by_the_models_with_their_attributes(encoder: str) -> None:
    sparse, dense, baseline = narrow.build("mesm", encoder), narrow.build("fe2e", encoder), two_phase.build("emoembs")
    found = {
        kind: [isinstance(model, kind) for model in (sparse, dense, baseline)]
        for kind in (SelectsSites, ReadsText, ReadsFeatures, HasEmotionVectors)
    }
    assert found == {
        SelectsSites: [True, False, False],
        ReadsText: [True, True, False],
        ReadsFeatures: [False, False, True],
        HasEmotionVectors: [False, False, True],
    }
    assert [bool(described(model)) for model in (sparse, baseline)] == [True, False]
    assert described(narrow.build("mesm", encoder, modalities="av")) is None


@pytest.mark.parametrize("name", models.names())
@pytest.mark.parametrize("corpus", ["iemocap", "mosei", "planted"])
def test_the_published_preset_names_settings_that_exist_and_values_that_can_be(name: str, corpus: str) -> None:
    values = models.preset(name, "published", corpus)
    config = models.load(name).Config
    of_model, of_training = ({field.name for field in fields(kind)} for kind in (config, TrainSettings))
    assert set(values) <= of_model | of_training
    made = config(**{name: value for name, value in values.items() if name in of_model})
    TrainSettings(**{name: value for name, value in values.items() if name in of_training})
    assert made.modalities == "tav"


def test_the_published_preset_holds_the_values_of_the_published_commands() -> None:
    presets = {name: models.preset(name, "published", "iemocap") for name in models.names()}
    assert {name: values["batch"] for name, values in presets.items()} == {
        "emoembs": 64, "fe2e": 8, "lf-lstm": 32, "lf-trans": 32, "mesm": 2, "mult": 24,
    }  # fmt: skip
    sparse = presets["mesm"]
    assert (sparse["top_p"], sparse["attention_gradient"], sparse["mel"]) == (0.8, "none", "power")
    assert (sparse["top_p_anneal"], sparse["grad_clip_norm"], sparse["positional_encoding"]) == (0, 0, False)
    assert presets["fe2e"] == {n: v for n, v in sparse.items() if n in presets["fe2e"]} | {"batch": 8}
    assert presets["mult"]["heads"] == 10
    assert models.preset("mult", "published", "mosei")["heads"] == 8
    assert (presets["mult"]["plateau_patience"], presets["emoembs"]["plateau_patience"]) == (20, 5)


def test_a_preset_overrides_every_size_that_a_dataset_may_suggest() -> None:
    """Otherwise a suggestion of the dataset would remain in what is called the published command."""
    from mesm_data.synth.synthetic_dataset import SUGGESTED

    for name in ("fe2e", "mesm"):
        of_sparse = {"top_p_anneal"} if name == "fe2e" else set()
        assert set(SUGGESTED) - of_sparse <= set(models.preset(name, "published", "planted"))


def test_an_unknown_preset_is_refused_with_those_there_are() -> None:
    with pytest.raises(DataError, match="preset 'paper': expected one of published"):
        models.preset("mesm", "paper", "iemocap")


def test_mesm_is_trained_with_annealing_and_a_bound_on_the_gradient_by_default() -> None:
    assert TrainSettings().top_p_anneal == 0.5
    assert mesm.SUGGESTED == {"grad_clip_norm": 1.0}


@pytest.mark.parametrize("name", models.names())
def test_sizes_of_features_are_fields_of_the_two_phase_models_only(name: str) -> None:
    config = models.load(name).Config()
    assert is_two_phase(config) == is_two_phase(type(config)) == ("text_size" in asdict(config))
