"""An artifact: a folder with a manifest, its signature and its origin."""
