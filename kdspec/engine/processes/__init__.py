"""One process or many: backends, process groups, torchrun."""
