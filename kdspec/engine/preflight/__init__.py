"""A look at the rows and the models of a stage before its first step."""
