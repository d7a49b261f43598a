"""Run time: an artifact becomes a session. Only the engines of PyTorch need torch."""

from runtimes.artifact.artifact import Artifact
from runtimes.session import Session, load

__all__ = ["Artifact", "Session", "load"]
