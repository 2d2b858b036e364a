"""What the 8-bit kernels of other x86 CPUs make of a file: those whose sums saturate, or those that are exact."""
