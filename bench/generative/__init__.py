"""Generative judges: comparisons a second beside vLLM itself."""
