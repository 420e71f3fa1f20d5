"""Differential privacy: budgets, accounting and noise."""
