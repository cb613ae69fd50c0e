"""Plans a run before it is made: what a choice costs on machines that are described by numbers."""
