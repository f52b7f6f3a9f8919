"""Which utterance is in which split, and the proof that a dataset is the paper's."""
