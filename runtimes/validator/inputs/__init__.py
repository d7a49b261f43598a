"""Values and sizes of the validator's inputs."""
