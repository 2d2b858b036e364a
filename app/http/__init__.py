"""What HTTP asks for beneath the doors: problems, headers, guards, keys, bodies in and out, figures."""
