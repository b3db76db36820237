"""Quantization methods as pure functions on tensors: weight, configuration and statistics in, QuantTensor out."""
