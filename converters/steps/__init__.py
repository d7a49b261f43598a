"""Steps in general: keys, cache, trace, child processes. Nothing here knows a recipe."""
