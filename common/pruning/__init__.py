"""Pruning from aggregates alone: scores, schedules, masks."""
