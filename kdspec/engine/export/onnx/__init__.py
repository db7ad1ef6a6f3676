"""A trained model as an ONNX file that needs neither kdspec nor torch."""
