"""Raw recordings of emotional speech in, verified Parquet shards out. Never imports `mesm_model`."""
