"""A Whisper model that hears the same words in everything: for tests of speech recognition without a model to download.

Its decoder passes on the embedding of a place, and each is, in large, the embedding of the word to say there.
"""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, WhisperConfig, WhisperForConditionalGeneration

SPECIAL = (
    "<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|translate|>", "<|transcribe|>", "<|startoflm|>",
    "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>", *(f"<|{n * 0.02:.2f}|>" for n in range(1501)),
)  # fmt: skip
PROMPT = 1  # places before the first word: the start; a small vocabulary counts as a model of English only


def write_transformers_whisper(folder: Path, said: list[str]) -> Path:
    """`said` are letters and marks of time such as "<|1.00|>"."""
    tokenizer = _tokenizer()
    ids = {token: tokenizer.token_to_id(token) for token in SPECIAL}
    end, start = ids["<|endoftext|>"], ids["<|startoftranscript|>"]
    config = WhisperConfig(
        vocab_size=tokenizer.get_vocab_size(), num_mel_bins=80, d_model=64, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16,
        decoder_start_token_id=start, bos_token_id=end, eos_token_id=end, pad_token_id=end,
        suppress_tokens=[], begin_suppress_tokens=[],
    )  # fmt: skip
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(config)
    with torch.no_grad():
        decoder = model.model.decoder
        for parameter in decoder.layers.parameters():
            parameter.zero_()
        words = decoder.embed_tokens.weight
        words.copy_(torch.randn_like(words))
        places = decoder.embed_positions.weight
        places.copy_(100 * words[end].expand_as(places))
        for place, token in enumerate(said, start=PROMPT - 1):
            places[place] = 100 * words[tokenizer.token_to_id(token)]
    model.generation_config.no_timestamps_token_id = ids["<|notimestamps|>"]
    model.generation_config.lang_to_id = {"<|en|>": ids["<|en|>"]}
    model.generation_config.alignment_heads = [[0, 0]]
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|endoftext|>", unk_token="<|endoftext|>"
    ).save_pretrained(folder)
    return folder


def _tokenizer() -> Tokenizer:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: n for n, letter in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer
