"""Text encoders: the tiny one, folders, and the errors of those that cannot be used."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, BertConfig, BertModel, DistilBertConfig, DistilBertModel

from mesm_data.errors import DataError
from mesm_model.models.common import text
from tests.model.conftest import TEXT


def tokens_of(*rows: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor([token for row in rows for token in row]), torch.tensor([len(row) for row in rows])


def test_the_same_texts_make_the_same_tiny_encoder(encoder: str, tmp_path: Path) -> None:
    text.prepare("tiny", [TEXT], tmp_path / "again")
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        assert (tmp_path / "again" / name).read_bytes() == (Path(encoder) / name).read_bytes()


def test_another_seed_draws_other_weights_and_leaves_the_callers_random_numbers_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    for seed in (0, 1):
        text.prepare("tiny", [TEXT], tmp_path / str(seed), seed=seed)
    assert torch.equal(torch.rand(3), expected)
    first, second = (text.TextBranch(str(tmp_path / seed), 2).encoder.state_dict() for seed in "01")
    weight = "encoder.embedding_hidden_mapping_in.weight"
    assert not torch.equal(first[weight], second[weight])


def test_a_saved_encoder_reloads_bit_equal(encoder: str, tmp_path: Path) -> None:
    text.prepare(encoder, [], tmp_path / "copy")
    first, second = text.TextBranch(encoder, 2).encoder, text.TextBranch(str(tmp_path / "copy"), 2).encoder
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())
    assert text.tokenize(encoder, ["happy day"]) == text.tokenize(tmp_path / "copy", ["happy day"])


def test_preparing_twice_keeps_the_first(tmp_path: Path) -> None:
    text.prepare("tiny", [TEXT], tmp_path / "text")
    before = (tmp_path / "text" / "tokenizer.json").read_bytes()
    text.prepare("tiny", ["other words altogether"], tmp_path / "text")
    assert (tmp_path / "text" / "tokenizer.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


def test_tokens_begin_with_cls_end_with_sep_and_are_cut_to_the_length_asked_for(tmp_path: Path) -> None:
    text.prepare("tiny", [TEXT] * 3, tmp_path / "text", max_tokens=6)
    short, long, empty = text.tokenize(tmp_path / "text", ["happy day", TEXT, ""])
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "text")
    assert tokenizer.convert_ids_to_tokens(short) == ["[CLS]", "Ġhappy", "Ġday", "[SEP]"]
    assert len(long) == 6
    assert tokenizer.convert_ids_to_tokens(empty) == ["[CLS]", "[SEP]"]


def test_letters_never_seen_still_become_tokens(encoder: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    assert tokenizer.unk_token_id not in text.tokenize(encoder, ["Zürich 雪 😀"])[0]


def test_padding_does_not_change_a_text(encoder: str) -> None:
    branch = text.TextBranch(encoder, 3).eval()
    short, long = [2, 10, 11, 3], [2, *range(20, 40), 3]
    together, cls = branch(*tokens_of(short, long))
    alone = torch.cat([branch(*tokens_of(row))[0] for row in (short, long)])
    assert cls.shape == (2, branch.hidden_size)
    torch.testing.assert_close(together, alone)


def test_every_output_can_say_that_tiny_is_not_the_papers_encoder(encoder: str, tmp_path: Path) -> None:
    text.prepare(encoder, [], tmp_path / "copy")
    for folder in (encoder, str(tmp_path / "copy")):
        said = text.TextBranch(folder, 3).description
        assert said.startswith("tiny (albert, ")
        assert said.endswith("small and randomly initialised: not the paper's albert-base-v2")


def test_more_tokens_than_the_model_has_positions_are_never_made(tmp_path: Path) -> None:
    text.prepare("tiny", [TEXT], tmp_path / "text", max_tokens=5000)
    (tokens,) = text.tokenize(tmp_path / "text", ["day " * 1000])
    assert len(tokens) == 512


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_a_folder_of_another_kind_of_encoder_works_and_sets_the_size_of_the_query(
    kind: str, encoder: str, tmp_path: Path
) -> None:
    models = {
        "bert": lambda: BertModel(
            BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, vocab_size=300)
        ),
        "distilbert": lambda: DistilBertModel(
            DistilBertConfig(dim=32, n_layers=1, n_heads=2, hidden_dim=32, vocab_size=300)
        ),
    }
    models[kind]().save_pretrained(tmp_path / "model")
    AutoTokenizer.from_pretrained(encoder).save_pretrained(tmp_path / "model")
    branch = text.TextBranch(str(tmp_path / "model"), 3)
    assert branch.hidden_size == 32
    assert branch.description.endswith("not the paper's albert-base-v2")
    assert branch(*tokens_of([2, 5, 3]))[1].shape == (1, 32)
    assert not [name for name, _ in branch.named_parameters() if "pooler" in name]


def test_half_precision_weights_are_read_as_single(encoder: str, tmp_path: Path) -> None:
    text.TextBranch(encoder, 3).encoder.half().save_pretrained(tmp_path / "half")
    branch = text.TextBranch(str(tmp_path / "half"), 3)
    assert {parameter.dtype for parameter in branch.parameters()} == {torch.float32}


def test_an_unknown_name_is_refused_in_one_line_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DataError) as refused:
        text.prepare("albert-base-v2", [], tmp_path / "text")
    assert str(refused.value) == (
        "text encoder albert-base-v2: found neither a folder of that name nor a model in the local cache, and none "
        "could be downloaded; run `hf download albert-base-v2 --local-dir FOLDER` where there is a network and give "
        "--text-encoder FOLDER, or --text-encoder tiny to try things out"
    )
    assert not (tmp_path / "text").exists()


@pytest.fixture
def own(encoder: str, tmp_path: Path) -> Path:
    """A copy of the tiny encoder to damage."""
    shutil.copytree(encoder, tmp_path / "own")
    return tmp_path / "own"


def refused(folder: Path) -> str:
    """What `prepare` says of an encoder that it refuses; nothing may be left of it."""
    with pytest.raises(DataError) as error:
        text.prepare(str(folder), [TEXT], folder.with_name("text"))
    assert not folder.with_name("text").exists()
    return str(error.value)


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def pickled(folder: Path, content: object) -> None:
    """Weights as older models have them, in place of the file of safetensors."""
    (folder / "model.safetensors").unlink()
    torch.save(content, folder / "pytorch_model.bin")


@pytest.mark.parametrize("broken", ["empty", "no config", "cut weights", "a list for a config", "a cut tokenizer"])
def test_a_folder_without_a_whole_model_is_refused_with_what_was_expected(broken: str, own: Path) -> None:
    config, weights, tokenizer = (own / name for name in ("config.json", "model.safetensors", "tokenizer.json"))
    harm = {
        "empty": lambda: [path.unlink() for path in own.iterdir()],
        "no config": config.unlink,
        "cut weights": lambda: weights.write_bytes(weights.read_bytes()[:1000]),
        "a list for a config": lambda: config.write_text("[1, 2]"),
        "a cut tokenizer": lambda: tokenizer.write_bytes(tokenizer.read_bytes()[:500]),
    }
    harm[broken]()
    message = refused(own)
    assert message.startswith(f"text encoder {own}: found no model that transformers can load (")
    assert message.endswith("; expected a folder with config.json, model.safetensors and tokenizer.json")
    assert "\n" not in message


def test_a_model_with_code_of_its_own_is_refused_without_a_question(own: Path) -> None:
    (own / "code.py").write_text(f"open({str(own / 'ran')!r}, 'w')\nclass Config: pass\nclass Model: pass\n")
    edit(own / "config.json", model_type="mine", auto_map={"AutoConfig": "code.Config", "AutoModel": "code.Model"})
    assert refused(own).startswith(
        f"{own / 'config.json'}: names code of its own in auto_map, which is never run here; expected a model"
    )
    assert not (own / "ran").exists()


def test_code_of_its_own_is_not_run_for_a_model_that_transformers_knows(own: Path) -> None:
    (own / "code.py").write_text(f"open({str(own / 'ran')!r}, 'w')\nclass Model: pass\n")
    edit(own / "config.json", auto_map={"AutoModel": "code.Model"})
    edit(own / "tokenizer_config.json", auto_map={"AutoTokenizer": ["code.Tokenizer", None]})
    text.prepare(str(own), [TEXT], own.with_name("text"))
    assert not (own / "ran").exists()


class Malicious:
    """Would make a folder where it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> object:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("broken", ["malicious", "cut", "zeros"])
def test_pickled_weights_that_are_not_only_weights_are_refused_in_one_line(broken: str, own: Path) -> None:
    pickled(own, {"weight": Malicious(own / "ran")})
    path = own / "pytorch_model.bin"
    content = {"malicious": path.read_bytes(), "cut": path.read_bytes()[:300], "zeros": bytes(1000)}
    path.write_bytes(content[broken])
    assert refused(own) == (
        f"text encoder {own}: pytorch_model.bin is damaged, or holds more than weights and was not run; "
        "expected a folder with config.json, model.safetensors and tokenizer.json"
    )
    assert not (own / "ran").exists()


def test_pickled_weights_are_read(encoder: str, own: Path) -> None:
    pickled(own, load_file(own / "model.safetensors"))
    first, second = (text.TextBranch(str(folder), 2).encoder.state_dict() for folder in (encoder, own))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize("kept", ["all but one", "those of another model"])
def test_missing_weights_are_not_drawn_at_random(kept: str, own: Path) -> None:
    weights = load_file(own / "model.safetensors")
    name = min(weights)
    left = {n: v for n, v in weights.items() if n != name} if kept == "all but one" else {"weight": torch.zeros(3)}
    save_file(left, own / "model.safetensors", metadata={"format": "pt"})
    count = 1 if kept == "all but one" else len(weights)
    assert refused(own).startswith(f"text encoder {own}: found no weights {name}, {count} in all; expected a folder")


def test_weights_of_other_sizes_are_refused(own: Path) -> None:
    edit(own / "config.json", hidden_size=64)
    assert refused(own).startswith(f"text encoder {own}: its weights are not of the sizes that its config.json gives;")


def test_a_folder_without_a_vocabulary_is_refused_and_not_read_as_a_language_without_words(
    encoder: str, tmp_path: Path
) -> None:
    text.TextBranch(encoder, 3).encoder.save_pretrained(tmp_path / "model")
    with pytest.raises(
        DataError, match=r"model: its tokenizer knows no word of the training texts; .* tokenizer\.json"
    ):
        text.prepare(str(tmp_path / "model"), [TEXT], tmp_path / "text")
    assert not (tmp_path / "text").exists()


def test_a_tokenizer_of_another_model_is_refused(encoder: str, tmp_path: Path) -> None:
    small = BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, vocab_size=100)
    BertModel(small).save_pretrained(tmp_path / "model")
    AutoTokenizer.from_pretrained(encoder).save_pretrained(tmp_path / "model")
    with pytest.raises(DataError, match=r"a tokenizer of \d+ tokens and a model that knows 100; expected those of one"):
        text.prepare(str(tmp_path / "model"), [TEXT], tmp_path / "text")
