"""The native library of the CPU backend: C++ sources and their build."""
