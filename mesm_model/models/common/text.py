"""Text encoders: what `--text-encoder` may name, their tokens, and the text branch of a model.

Whatever is named (a model of the Hugging Face hub, a folder, "tiny"), `prepare` saves it into a folder beside the run.
Everything later reads that folder, so that a run needs neither a network nor the original encoder.
Code in a model folder is never run: `trust_remote_code` is False, and pickled weights are read with `weights_only`.
"""

import pickle
import shutil
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from logging import ERROR, getLogger
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from transformers import AlbertConfig, AlbertModel, AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging

from mesm_data.errors import DataError
from mesm_data.files import sync
from mesm_model.batch import pad

REMOTE_CODE = "trust_remote_code"  # in transformers' error for a model that needs code of its own
PICKLED = ("weights_only", "PytorchStreamReader")  # in torch's errors for pickled weights; it advises to run them
PAPER = "albert-base-v2"
TINY = "tiny"
MAX_TOKENS = 100  # per utterance, as in the published command
EXPECTED = "expected a folder with config.json, model.safetensors and tokenizer.json"


def prepare(encoder: str, texts: Iterable[str], folder: Path, max_tokens: int = MAX_TOKENS, seed: int = 0) -> None:
    """Save tokenizer and model of `encoder` into `folder`, unless it exists. `texts` train the tokenizer of "tiny".

    Raises DataError for an encoder that does not exist, cannot be downloaded, or is damaged.
    """
    if folder.exists():
        return
    texts = list(texts)
    tokenizer, model = _tiny(texts, seed) if encoder == TINY else (_tokenizer(encoder), _model(encoder))
    _check_vocabulary(encoder, tokenizer, model, [text for text in texts if text.strip()][:100])
    positions = getattr(model.config, "max_position_embeddings", max_tokens)
    tokenizer.model_max_length = min(max_tokens, tokenizer.model_max_length, positions)
    model.config.origin = getattr(model.config, "origin", encoder)
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        with _quiet():
            tokenizer.save_pretrained(unfinished)
            model.save_pretrained(unfinished)
    except SafetensorError as error:  # for a full disk it raises no OSError
        shutil.rmtree(unfinished, ignore_errors=True)
        raise DataError(f"{folder}: cannot be written ({error}); make room and give the same command again") from None
    for path in unfinished.rglob("*"):
        if path.is_file():
            sync(path)
    unfinished.rename(folder)


def tokenize(encoder: str | Path, texts: Sequence[str]) -> list[list[int]]:
    """The token ids of each text, CLS first, truncated to the `max_tokens` of `prepare`; never empty."""
    return _tokenizer(str(encoder))(list(texts), truncation=True, return_attention_mask=False)["input_ids"]


class TextBranch(nn.Module):
    """Packed tokens -> logits [B, E], and the CLS [B, H] that they are computed from, the query of attention."""

    def __init__(self, encoder: str, emotions: int) -> None:
        super().__init__()
        self.encoder = _model(encoder)
        self.hidden_size: int = self.encoder.config.hidden_size
        self.head = nn.Linear(self.hidden_size, emotions)

    def forward(self, tokens: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        padded, present = pad(tokens, counts, fill=self.encoder.config.pad_token_id or 0)  # [B, T]
        states = self.encoder(input_ids=padded, attention_mask=present.long()).last_hidden_state
        cls = states[:, 0]
        return self.head(cls), cls

    @property
    def description(self) -> str:
        """What the encoder is, for a log or a page; says so where it is not the paper's."""
        config = self.encoder.config
        size = sum(parameter.numel() for parameter in self.encoder.parameters())
        what = f"{getattr(config, 'origin', config.name_or_path)} ({config.model_type}, {size:,} parameters)"
        if getattr(config, "origin", "") == TINY:
            return f"{what}, small and randomly initialised: not the paper's {PAPER}"
        of_paper = config.model_type == "albert" and (config.hidden_size, config.num_hidden_layers) == (768, 12)
        return what if of_paper else f"{what}: not the paper's {PAPER}"


def _tiny(texts: Iterable[str], seed: int) -> tuple[PreTrainedTokenizerFast, PreTrainedModel]:
    """An ALBERT of two layers with random weights, and a tokenizer with a token for every frequent word.

    Byte pairs, because their trainer returns the same tokenizer in every run; those of word pieces and unigrams do not.
    """
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trained = Tokenizer(models.BPE(unk_token="[UNK]"))
    trained.normalizer = normalizers.BertNormalizer()
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    trained.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=2000, special_tokens=special, initial_alphabet=letters, show_progress=False),
    )
    trained.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", special.index("[CLS]")), ("[SEP]", special.index("[SEP]"))]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=trained, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    config = AlbertConfig(
        vocab_size=trained.get_vocab_size(), embedding_size=64, hidden_size=128, num_hidden_layers=2,
        num_attention_heads=4, intermediate_size=256, pad_token_id=0, bos_token_id=2, eos_token_id=3,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return tokenizer, AlbertModel(config, add_pooling_layer=False)


def _check_vocabulary(encoder: str, tokenizer: Any, model: PreTrainedModel, texts: list[str]) -> None:
    """Raises DataError for a tokenizer of another model, or an empty one that transformers made without its files."""
    if len(tokenizer) > model.config.vocab_size:
        raise DataError(
            f"text encoder {encoder}: found a tokenizer of {len(tokenizer)} tokens and a model that knows "
            f"{model.config.vocab_size}; expected those of one model"
        )
    special = set(tokenizer.all_special_ids)
    if texts and all(special.issuperset(tokens) for tokens in tokenizer(texts)["input_ids"]):
        raise DataError(f"text encoder {encoder}: its tokenizer knows no word of the training texts; {EXPECTED}")


def _model(encoder: str) -> PreTrainedModel:
    """In float32, without the pooling layer, which would never receive a gradient."""
    with _quiet(), _one_line(encoder):
        try:
            model, info = _load(AutoModel, encoder, add_pooling_layer=False, output_loading_info=True)
        except TypeError as error:  # a kind of model that has no such layer
            if "add_pooling_layer" not in str(error):
                raise
            model, info = _load(AutoModel, encoder, output_loading_info=True)
        missing = sorted(name for name in info["missing_keys"] if "pooler" not in name)
        if missing:  # transformers would draw them at random
            raise DataError(f"text encoder {encoder}: found no weights {missing[0]}, {len(missing)} in all; {EXPECTED}")
        return model.float()


def _tokenizer(encoder: str) -> Any:
    with _quiet(), _one_line(encoder):
        return _load(AutoTokenizer, encoder)


def _load(kind: Any, encoder: str, **more: Any) -> Any:
    """From this disk, without any request; from the hub only what is not here. Runs no code of the model."""
    try:
        return kind.from_pretrained(encoder, local_files_only=True, trust_remote_code=False, **more)
    except (OSError, ValueError) as error:
        if Path(encoder).is_dir() or REMOTE_CODE in str(error):
            raise
        print(f"text encoder {encoder}: not in the local cache, asking the Hugging Face hub", file=sys.stderr)
        return kind.from_pretrained(encoder, trust_remote_code=False, **more)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without progress bars, and without tables of the weights of a language model's head."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    hub = getLogger("huggingface_hub")
    of_hub = hub.level
    logging.set_verbosity_error()
    hub.setLevel(ERROR)
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.set_verbosity(verbosity)
        hub.setLevel(of_hub)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def _one_line(encoder: str) -> Iterator[None]:
    """Raises DataError for whatever transformers, tokenizers and torch raise: for damaged files it may be anything."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:
        raise DataError(_explain(encoder, error)) from error


def _explain(encoder: str, error: Exception) -> str:
    """What is wrong with an encoder that did not load, and what to do."""
    if REMOTE_CODE in str(error):
        file = Path(encoder) / "config.json" if Path(encoder).is_dir() else f"config.json of {encoder}"
        return (
            f"{file}: names code of its own in auto_map, which is never run here; expected a model that transformers "
            f"{version('transformers')} has code for"
        )
    if Path(encoder).is_dir():
        if isinstance(error, pickle.UnpicklingError) or any(sign in str(error) for sign in PICKLED):
            names = ", ".join(sorted(path.name for path in Path(encoder).glob("*.bin")))
            return f"text encoder {encoder}: {names} is damaged, or holds more than weights and was not run; {EXPECTED}"
        if "ignore_mismatched_sizes" in str(error):
            return f"text encoder {encoder}: its weights are not of the sizes that its config.json gives; {EXPECTED}"
        detail = shorten(" ".join(f"{type(error).__name__}: {error}".split()), 160, placeholder=" ...")
        return f"text encoder {encoder}: found no model that transformers can load ({detail}); {EXPECTED}"
    return (
        f"text encoder {encoder}: found neither a folder of that name nor a model in the local cache, and none "
        f"could be downloaded; run `hf download {encoder} --local-dir FOLDER` where there is a network and give "
        "--text-encoder FOLDER, or --text-encoder tiny to try things out"
    )
