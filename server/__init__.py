"""The central bank: rounds, sums, masks and the smaller model."""
