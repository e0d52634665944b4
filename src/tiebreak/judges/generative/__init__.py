"""The generative judge: a causal language model is asked which answer is better, and its probabilities are read."""
