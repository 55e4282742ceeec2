"""kvdict in other people's frameworks: one integration a module, each an extra of its name."""
