"""One or several processes: backends, process groups, torchrun."""
