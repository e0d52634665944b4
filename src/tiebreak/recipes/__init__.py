"""Recipes that ship with the package, as YAML; the first line of each is the command that launches it."""
