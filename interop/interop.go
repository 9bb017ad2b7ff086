// Package interop reads and writes the files by which other tools take part:
// safetensors (weights, checkpoints, features), PyTorch's checkpoints (weights),
// NumPy's npy (features).
//
// Files come from anywhere, so every size that a file claims is checked against
// what is there before memory is set aside; bad files give errors, never a
// crash. Package interop knows formats, not networks: which tensor is which
// layer's is not decided here.
package interop
