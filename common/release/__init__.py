"""A finished model with all that it is answerable for, and who has said yes to it."""
