"""What a run needs of the machine, worked out from its configuration before a network is built."""
