"""Commands about several runs: comparing them, and running them."""
