"""Dealing rows to parts: whole groups, with the labels spread in proportion."""
