"""Benchmarks: `make bench`. Ratios to native replication, measured beside each other in one run on loopback."""
