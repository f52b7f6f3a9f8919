"""A finished dataset in the formats that other tools read."""
