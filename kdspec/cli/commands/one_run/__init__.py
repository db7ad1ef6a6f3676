"""Commands about one finished run."""
