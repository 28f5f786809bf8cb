"""Triton kernels. Each file has the kernel, its launch, and a plain torch function that specifies it.

`TRITON_INTERPRET=1`, set before the import, runs them on a CPU.
"""
