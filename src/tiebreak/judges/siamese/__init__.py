"""The siamese judge: each answer is read once by itself, and both orders are the same by construction."""
