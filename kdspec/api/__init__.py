"""The contract between kdspec and its plugins: all that a package may import, exported again by `kdspec`."""
