//go:build linux && cgo

#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "shim.h"

enum { THREAD_SERIALIZED = 2 };

static const char *const names[] = {"MPI_Iallreduce", "MPI_Iallgather", "MPI_Ialltoall", "MPI_Ibcast", "MPI_Ibarrier"};

static void *library;
static int is_open_mpi;
static void *in_place;
static void *status_ignore;

typedef void *open_mpi_handle;
typedef int mpich_handle;

#define H open_mpi_handle
#define F(name) open_mpi_##name
#include "shim_calls.h"

#define H mpich_handle
#define F(name) mpich_##name
#include "shim_calls.h"

// One call of the library at a time (MPI_THREAD_SERIALIZED).
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int comms = 1;
static unsigned char busy[SHIM_REQUESTS];

#define BY_LIBRARY(name, ...) (is_open_mpi ? open_mpi_##name(__VA_ARGS__) : mpich_##name(__VA_ARGS__))

static int load_open_mpi(char *err) {
	struct {
		void **to;
		const char *name;
	} all[] = {
		{&open_mpi_comms[0], "ompi_mpi_comm_world"},
		{&open_mpi_types[SHIM_BYTE], "ompi_mpi_byte"},
		{&open_mpi_types[SHIM_FLOAT], "ompi_mpi_float"},
		{&open_mpi_types[SHIM_DOUBLE], "ompi_mpi_double"},
		{&open_mpi_ops[SHIM_SUM], "ompi_mpi_op_sum"},
		{&open_mpi_ops[SHIM_MAX], "ompi_mpi_op_max"},
		{&open_mpi_errors_return, "ompi_mpi_errors_return"},
	};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		if (!(*all[i].to = dlsym(library, all[i].name))) {
			snprintf(err, SHIM_ERROR, "it has no %s", all[i].name);
			return -1;
		}
	in_place = (void *)1;
	status_ignore = NULL;
	return open_mpi_load(err);
}

// The numbers are those of the ABI that MPICH, Intel MPI, MVAPICH and Cray MPI share.
static int load_mpich(char *err) {
	mpich_comms[0] = 0x44000000;
	mpich_types[SHIM_BYTE] = 0x4c00010d;
	mpich_types[SHIM_FLOAT] = 0x4c00040a;
	mpich_types[SHIM_DOUBLE] = 0x4c00080b;
	mpich_ops[SHIM_SUM] = 0x58000003;
	mpich_ops[SHIM_MAX] = 0x58000001;
	mpich_errors_return = 0x54000001;
	in_place = (void *)-1;
	status_ignore = (void *)1;
	return mpich_load(err);
}

int shim_open(const char *path, int *open_mpi, char *err) {
	// Open MPI's components are libraries of their own that look for its symbols among
	// the global ones.
	library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
	if (!library) {
		snprintf(err, SHIM_ERROR, "%s", dlerror());
		return -1;
	}
	*open_mpi = is_open_mpi = dlsym(library, "ompi_mpi_comm_world") != NULL;
	return is_open_mpi ? load_open_mpi(err) : load_mpich(err);
}

int shim_version(char *version, size_t n, char *err) {
	char text[8192] = ""; // MPI_MAX_LIBRARY_VERSION_STRING of MPICH, the larger
	int length = 0, code = is_open_mpi ? open_mpi_call.get_library_version(text, &length) : mpich_call.get_library_version(text, &length);
	if (code) {
		snprintf(err, SHIM_ERROR, "MPI_Get_library_version failed");
		return -1;
	}
	snprintf(version, n, "%s", text);
	return 0;
}

int shim_init(int *rank, int *size, char *err) { return BY_LIBRARY(init, rank, size, err); }

int shim_finalize(char *err) {
	pthread_mutex_lock(&lock);
	int code = is_open_mpi ? open_mpi_call.finalize() : mpich_call.finalize();
	pthread_mutex_unlock(&lock);
	if (!code)
		return 0;
	snprintf(err, SHIM_ERROR, "MPI_Finalize failed");
	return -1;
}

int shim_split(int comm, int color, int key, int *out, int *rank, int *size, char *err) {
	if (comms == SHIM_COMMS) {
		snprintf(err, SHIM_ERROR, "more than %d communicators", SHIM_COMMS);
		return -1;
	}
	pthread_mutex_lock(&lock);
	*out = comms++;
	int code = BY_LIBRARY(split, comm, color, key, *out, rank, size, err);
	pthread_mutex_unlock(&lock);
	return code;
}

int shim_start(const struct shim_operation *o, int *request, char *err) {
	pthread_mutex_lock(&lock);
	int r = 0, code = -1;
	while (r < SHIM_REQUESTS && busy[r])
		r++;
	if (r == SHIM_REQUESTS)
		snprintf(err, SHIM_ERROR, "more than %d operations at a time", SHIM_REQUESTS);
	else if (!(code = BY_LIBRARY(start, o, r, err)))
		busy[*request = r] = 1;
	pthread_mutex_unlock(&lock);
	return code;
}

int shim_test(int request, int *done, char *err) {
	pthread_mutex_lock(&lock);
	*done = 0;
	int code = BY_LIBRARY(test, request, done, err);
	if (code || *done)
		busy[request] = 0;
	pthread_mutex_unlock(&lock);
	return code;
}

// Waiting is spinning at first, as answers come within microseconds, then leaving the
// processor to others, and at last sleeping, as a rank may be slower by seconds.
enum { SPINS = 200, YIELDS = 5000, NAP_NS = 50000 };

int shim_run(const struct shim_operation *o, volatile int *stop, char *err) {
	int request, done, code;
	if ((code = shim_start(o, &request, err)))
		return code;
	for (int tries = 0;; tries++) {
		if ((code = shim_test(request, &done, err)) || done)
			return code;
		if (*stop)
			return 1;
		if (tries >= SPINS + YIELDS)
			nanosleep(&(struct timespec){0, NAP_NS}, NULL);
		else if (tries >= SPINS)
			sched_yield();
	}
}
