"""What all other modules use: errors, checks of arguments, values, units and buffers."""
