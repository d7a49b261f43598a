"""Files: bounded documents, safe names, atomic writes."""
