"""From samples to what a network sees: front ends, each a frozen configuration and a callable."""
