from runtimes.artifact.artifact import Artifact as Artifact
from runtimes.session import Session as Session
from runtimes.session import load as load
