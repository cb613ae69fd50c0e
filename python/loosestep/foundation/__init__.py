"""What everything stands on: errors, checks of arguments, values, units and buffers."""
