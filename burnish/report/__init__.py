"""Reports: build.json and the results of the verbs, as people read them."""
