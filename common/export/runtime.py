"""onnxruntime, told to send nothing before it starts: the one place that imports it.

From 1.29 on it reports processes, models and hashes of their weights to its maker, on Linux too,
unless this variable is set before its library is loaded (its ``Privacy.md``); its own function to
switch that off comes too late for the first report.
"""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

__all__ = ["onnxruntime"]
