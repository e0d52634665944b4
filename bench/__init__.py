"""Benchmarks: what the README claims, measured. `make bench` prints them and writes JSON to bench/results."""
