"""A locked and hashed wheelhouse for a stated Python and platform: all that one judge needs, and no more."""
