"""Float detectors out of ONNX files."""
