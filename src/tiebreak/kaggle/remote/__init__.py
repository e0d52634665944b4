"""Kaggle itself, through its own command line: what there is, what has to be sent, and what came out."""
