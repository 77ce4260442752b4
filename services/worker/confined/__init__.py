"""Running code on untrusted input in a process of its own, with limits it cannot pass."""
