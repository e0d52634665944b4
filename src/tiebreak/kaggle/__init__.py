"""From a bundle to a Kaggle submission without internet: wheels, models, a notebook, and a rehearsal of them here."""
