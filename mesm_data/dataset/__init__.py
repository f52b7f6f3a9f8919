"""A finished dataset: its Parquet shards and index, written, read and verified."""
