"""How a model is called: inputs by name, structures, half precision, flat ends for exporters."""
