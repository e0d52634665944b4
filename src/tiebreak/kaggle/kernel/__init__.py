"""The code of the notebook, as modules of the standard library alone, so that each is tested as what it is."""
