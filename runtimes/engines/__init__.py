"""One file per engine. Each imports its library inside the function that needs it."""
