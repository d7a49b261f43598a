"""Sources of the eager model."""

from converters.sources.torchvision import torchvision_names

__all__ = ["torchvision_names"]
