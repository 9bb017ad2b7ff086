// Package deploy is a folder of files to copy: batch scripts for SLURM and manifests
// for Kubernetes, with the tests that hold them against what these systems read.
// docs/cluster.md tells how they are used. No code belongs here.
package deploy
