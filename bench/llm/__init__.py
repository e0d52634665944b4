"""Benchmarks of fine-tuned judges: speed beside peers, rendering, quality on held-out votes."""
