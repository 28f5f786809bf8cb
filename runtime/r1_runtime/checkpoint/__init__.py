"""Reading of checkpoints: safetensors folders and GGUF files as one list of named tensors."""
