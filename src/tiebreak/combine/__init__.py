"""Several judges as one: adapters averaged, an adapter merged into its base, predictions blended."""
