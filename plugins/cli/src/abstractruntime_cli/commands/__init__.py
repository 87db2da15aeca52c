"""The commands, by what they are for: `driving`, `inspection`, `installation`."""
