"""One optimizer step: models, inputs, losses, gradients."""
