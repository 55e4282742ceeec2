"""kvdict in other people's frameworks."""
