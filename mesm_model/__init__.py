"""Train, evaluate and explain FE2E, MESM and their baselines on the shards that `mesm_data` writes."""
