"""Benchmarks. Each compares with a peer in the same run and prints ratios: absolute times are noise."""
