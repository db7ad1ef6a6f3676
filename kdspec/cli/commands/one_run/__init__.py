"""Commands on the models of one finished run."""
