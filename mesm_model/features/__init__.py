"""Fixed features for the two-phase models: computed, imported, stored."""
