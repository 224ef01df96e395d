"""MongoDB: the one package that knows the driver, and the embedded server that runs when no other is named."""
