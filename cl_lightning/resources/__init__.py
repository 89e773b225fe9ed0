"""Resources that a run needs of the machine, computed from its configuration before a network is built."""
