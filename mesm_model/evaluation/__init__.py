"""Scores, thresholds, multiply-adds and the paper's figures beside them."""
