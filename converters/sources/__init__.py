"""Where an eager model comes from."""

from converters.sources.torchvision import torchvision_names

__all__ = ["torchvision_names"]
