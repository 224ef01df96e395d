"""Partners outside: one package each, none of which knows another. They fill the ports that `resources` define."""
