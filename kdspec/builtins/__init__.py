"""The plugins that kdspec brings along; each module imports only what a third-party package may import."""
