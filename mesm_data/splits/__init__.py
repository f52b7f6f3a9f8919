"""Which utterance is in which part, and the proof that a split is the paper's."""
