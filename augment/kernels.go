package augment

// Kernels names the code that works on pixels, for run records.
func Kernels() string { return "go" }
