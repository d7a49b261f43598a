"""OpenVINO, its compiled blobs, and the checks before it parses an IR."""
