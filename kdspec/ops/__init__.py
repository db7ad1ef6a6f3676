"""The mathematics of kdspec: pure functions of tensors, with shapes, equation and paper in each docstring."""
