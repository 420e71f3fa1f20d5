"""The whole federation on one machine, for researchers and tests."""
