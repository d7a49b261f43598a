"""Run time: an artifact becomes a session. Nothing here needs torch, except the engines that are torch."""

from runtimes.artifact.artifact import Artifact
from runtimes.session import Session, load

__all__ = ["Artifact", "Session", "load"]
