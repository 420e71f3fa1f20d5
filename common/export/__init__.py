"""A trained model as files: ONNX, safetensors, sparse, and what became smaller."""
