"""The metadata files of Kaggle as closed schemas: every rule of its client, and those that it ignores in silence."""
