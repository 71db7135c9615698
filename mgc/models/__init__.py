"""Networks: one file for each family of architectures, with a frozen configuration and a module."""
