"""The institution: its data, its training, its last word."""
