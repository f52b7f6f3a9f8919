"""In place of models/common/text.py where transformers is not installed: sizes and work of ALBERT in plain torch."""

from torch import Tensor, nn

from mesm_model.batch import pad

WORDS, EMBEDDING, HIDDEN, HEADS, FEED_FORWARD, PASSES = 30_000, 128, 768, 12, 3072, 12  # of albert-base-v2


class TextBranch(nn.Module):
    """Packed tokens -> logits [B, E] and the CLS [B, H]; one layer applied twelve times, as in ALBERT."""

    hidden_size = HIDDEN

    def __init__(self, encoder: str, emotions: int) -> None:
        super().__init__()
        self.words = nn.Sequential(nn.Embedding(WORDS, EMBEDDING), nn.Linear(EMBEDDING, HIDDEN))
        self.layer = nn.TransformerEncoderLayer(HIDDEN, HEADS, FEED_FORWARD, 0.0, "gelu", batch_first=True)
        self.head = nn.Linear(HIDDEN, emotions)

    def forward(self, tokens: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        padded, present = pad(tokens, counts)  # [B, T]
        x = self.words(padded)  # [B, T, H]
        for _ in range(PASSES):
            x = self.layer(x, src_key_padding_mask=~present)
        return self.head(x[:, 0]), x[:, 0]
