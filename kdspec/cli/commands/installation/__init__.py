"""Commands about the installation: its plugins, and the machine that it is on."""
