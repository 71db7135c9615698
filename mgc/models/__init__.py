"""Networks: one file an architecture family, each a frozen configuration and a module."""
