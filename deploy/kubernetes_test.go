package deploy_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	batch "k8s.io/api/batch/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// mpiJob is what the manifest may say of a kubeflow.org/v2beta1 MPIJob. (The operator's
// own types are not to be had as a module; scripts/test-kubernetes holds the manifest
// against a cluster's definition.)
type mpiJob struct {
	meta.TypeMeta   `json:",inline"`
	meta.ObjectMeta `json:"metadata"`
	Spec            struct {
		SlotsPerWorker         int32  `json:"slotsPerWorker"`
		MPIImplementation      string `json:"mpiImplementation"`
		SSHAuthMountPath       string `json:"sshAuthMountPath"`
		LauncherCreationPolicy string `json:"launcherCreationPolicy"`
		RunPolicy              struct {
			CleanPodPolicy string `json:"cleanPodPolicy"`
			BackoffLimit   int32  `json:"backoffLimit"`
		} `json:"runPolicy"`
		MPIReplicaSpecs map[string]struct {
			Replicas      int32                `json:"replicas"`
			RestartPolicy string               `json:"restartPolicy"`
			Template      core.PodTemplateSpec `json:"template"`
		} `json:"mpiReplicaSpecs"`
	} `json:"spec"`
}

// manifest is what is in an overlay, by kind.
type manifest struct {
	jobs     []batch.Job
	mpi      []mpiJob
	services []core.Service
	claims   []core.PersistentVolumeClaim
}

// add reads documents as the API server does with fieldValidation=Strict: a key that it
// does not know, one that is twice there, and a value of the wrong type are errors.
func (m *manifest) add(text []byte) error {
	for _, doc := range bytes.Split(text, []byte("\n---\n")) {
		var kind meta.TypeMeta
		if err := yaml.Unmarshal(doc, &kind); err != nil {
			return err
		}
		var err error
		switch kind.APIVersion + " " + kind.Kind {
		case "batch/v1 Job":
			m.jobs, err = read(m.jobs, doc)
		case "kubeflow.org/v2beta1 MPIJob":
			m.mpi, err = read(m.mpi, doc)
		case "v1 Service":
			m.services, err = read(m.services, doc)
		case "v1 PersistentVolumeClaim":
			m.claims, err = read(m.claims, doc)
		default:
			err = fmt.Errorf("what is a %s %s?", kind.APIVersion, kind.Kind)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", kind.Kind, err)
		}
	}
	return nil
}

func read[T any](to []T, doc []byte) ([]T, error) {
	var v T
	err := yaml.UnmarshalStrict(doc, &v)
	return append(to, v), err
}

// overlay is the manifest of an overlay: its files and the base's, or what kubectl, where
// it is there, renders of them.
func overlay(t *testing.T, name string) *manifest {
	t.Helper()
	m := &manifest{}
	folder := filepath.Join("kubernetes", "overlays", name)
	for _, pattern := range []string{filepath.Join(folder, "*.yaml"), "kubernetes/base/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err == nil && filepath.Base(file) != "kustomization.yaml" {
				err = m.add(text)
			}
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
		}
	}
	kubectl, err := exec.LookPath("kubectl")
	if err != nil {
		return m
	}
	rendered := &manifest{}
	out, err := exec.Command(kubectl, "kustomize", folder).CombinedOutput()
	if err == nil {
		err = rendered.add(out)
	}
	if err != nil {
		t.Fatalf("kubectl kustomize %s: %v\n%s", folder, err, out)
	}
	return rendered
}

func TestIndexedJob(t *testing.T) {
	m := overlay(t, "job")
	if len(m.jobs) != 1 || len(m.services) != 1 || len(m.mpi) != 0 {
		t.Fatalf("%d jobs, %d services, %d MPI jobs: want 1, 1, 0", len(m.jobs), len(m.services), len(m.mpi))
	}
	job, service := m.jobs[0], m.services[0]
	spec := job.Spec
	if spec.CompletionMode == nil || *spec.CompletionMode != batch.IndexedCompletion {
		t.Error("the job is not indexed: pods would not know their rank")
	}
	if *spec.Completions != *spec.Parallelism {
		t.Errorf("%d ranks, %d at a time: they would wait for each other for ever", *spec.Completions, *spec.Parallelism)
	}
	pod := spec.Template.Spec
	c := pod.Containers[0]
	if got := variable(c, "WORLD_SIZE"); got != strconv.Itoa(int(*spec.Completions)) {
		t.Errorf("WORLD_SIZE is %s of %d ranks", got, *spec.Completions)
	}
	if want := job.Name + "-0." + service.Name; variable(c, "MASTER_ADDR") != want || pod.Subdomain != service.Name {
		t.Errorf("MASTER_ADDR %s, subdomain %s: rank 0 is %s", variable(c, "MASTER_ADDR"), pod.Subdomain, want)
	}
	port := service.Spec.Ports[0].Port
	if variable(c, "MASTER_PORT") != strconv.Itoa(int(port)) || c.Ports[0].ContainerPort != port {
		t.Errorf("MASTER_PORT %s, the service's %d, the container's %d", variable(c, "MASTER_PORT"), port, c.Ports[0].ContainerPort)
	}
	if service.Spec.ClusterIP != core.ClusterIPNone || !service.Spec.PublishNotReadyAddresses {
		t.Error("the service is not headless, or hides pods that are not ready: ranks would not find each other")
	}
	if service.Spec.Selector[batch.JobNameLabel] != job.Name {
		t.Errorf("the service selects %v", service.Spec.Selector)
	}
	// The API server refuses a failure policy with another restart policy.
	if pod.RestartPolicy != core.RestartPolicyNever {
		t.Errorf("restart policy %s beside a pod failure policy", pod.RestartPolicy)
	}
	for _, rule := range spec.PodFailurePolicy.Rules {
		if e := rule.OnExitCodes; e != nil && *e.ContainerName != c.Name {
			t.Errorf("a failure rule of the container %s, which is not there", *e.ContainerName)
		}
	}
	goesOn(t, append(slices.Clone(c.Command), c.Args...))
	checkPod(t, spec.Template, m.claims)
}

func TestMPIJob(t *testing.T) {
	m := overlay(t, "mpijob")
	if len(m.mpi) != 1 || len(m.jobs) != 0 || len(m.services) != 0 {
		t.Fatalf("%d MPI jobs, %d jobs, %d services: want 1, 0, 0", len(m.mpi), len(m.jobs), len(m.services))
	}
	spec := m.mpi[0].Spec
	launcher, worker := spec.MPIReplicaSpecs["Launcher"], spec.MPIReplicaSpecs["Worker"]
	if len(spec.MPIReplicaSpecs) != 2 || launcher.Replicas != 1 || worker.Replicas < 1 {
		t.Errorf("replicas: %d launchers, %d workers", launcher.Replicas, worker.Replicas)
	}
	for field, ok := range map[string]bool{
		"mpiImplementation":             spec.MPIImplementation == "OpenMPI", // that of the image
		"launcherCreationPolicy":        slices.Contains([]string{"AtStartup", "WaitForWorkersReady"}, spec.LauncherCreationPolicy),
		"runPolicy.cleanPodPolicy":      slices.Contains([]string{"None", "Running", "All"}, spec.RunPolicy.CleanPodPolicy),
		"Launcher.restartPolicy":        slices.Contains([]string{"Never", "OnFailure"}, launcher.RestartPolicy),
		"Worker.restartPolicy":          slices.Contains([]string{"Never", "OnFailure"}, worker.RestartPolicy),
		"sshAuthMountPath":              spec.SSHAuthMountPath == "/home/mpiuser/.ssh", // that of the image
		"runPolicy.backoffLimit, none?": spec.RunPolicy.BackoffLimit > 0,
	} {
		if !ok {
			t.Errorf("%s has a value that will not do", field)
		}
	}
	c := launcher.Template.Spec.Containers[0]
	command := append(slices.Clone(c.Command), c.Args...)
	if i := slices.Index(command, "-n"); i < 0 || command[i+1] != strconv.Itoa(int(worker.Replicas*spec.SlotsPerWorker)) {
		t.Errorf("mpirun starts %v on %d workers of %d slots", command, worker.Replicas, spec.SlotsPerWorker)
	}
	cpus := worker.Template.Spec.Containers[0].Resources.Limits.Cpu().Value()
	if got := variable(c, "OMP_NUM_THREADS"); got != strconv.Itoa(int(cpus)/int(spec.SlotsPerWorker)) {
		t.Errorf("OMP_NUM_THREADS %s, a worker has %d processors", got, cpus)
	}
	goesOn(t, command)
	checkPod(t, launcher.Template, m.claims)
	checkPod(t, worker.Template, m.claims)
}

// goesOn checks that a pod that is started again goes on with the run.
func goesOn(t *testing.T, command []string) {
	t.Helper()
	if i := slices.Index(command, "--resume"); i < 0 || command[i+1] != "auto" {
		t.Errorf("no --resume auto in %v", command)
	}
}

// checkPod checks what the types cannot: that names lead somewhere, and that the pod may
// save before it is killed.
func checkPod(t *testing.T, pod core.PodTemplateSpec, claims []core.PersistentVolumeClaim) {
	t.Helper()
	spec := pod.Spec
	if s := spec.TerminationGracePeriodSeconds; s == nil || *s < 60 {
		t.Error("less than a minute to save before the pod is killed")
	}
	for _, v := range spec.Volumes {
		if !slices.ContainsFunc(claims, func(c core.PersistentVolumeClaim) bool { return c.Name == v.PersistentVolumeClaim.ClaimName }) {
			t.Errorf("volume %s: no claim %s", v.Name, v.PersistentVolumeClaim.ClaimName)
		}
	}
	for _, spread := range spec.TopologySpreadConstraints {
		for k, v := range spread.LabelSelector.MatchLabels {
			if pod.Labels[k] != v {
				t.Errorf("pods are spread by %s=%s, which they do not have", k, v)
			}
		}
	}
	for _, c := range spec.Containers {
		for _, mount := range c.VolumeMounts {
			if !slices.ContainsFunc(spec.Volumes, func(v core.Volume) bool { return v.Name == mount.Name }) {
				t.Errorf("container %s mounts the volume %s, which is not there", c.Name, mount.Name)
			}
		}
		for _, what := range []core.ResourceName{core.ResourceCPU, core.ResourceMemory} {
			request, limit := c.Resources.Requests[what], c.Resources.Limits[what]
			if request.IsZero() || limit.IsZero() || request.Cmp(limit) > 0 {
				t.Errorf("container %s: %s requested %s, at most %s", c.Name, what, request.String(), limit.String())
			}
		}
	}
}

func variable(c core.Container, name string) string {
	for _, v := range c.Env {
		if v.Name == name {
			return v.Value
		}
	}
	return ""
}
