"""build.json as a person reads it. Nothing here knows more than build.json says."""
