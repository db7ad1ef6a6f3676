"""The texts of the task `embedding`: training rows with translations, and the sets that its models are evaluated on."""
