"""Teachers' soft labels: each row is labelled by those teachers that were not trained on it."""
