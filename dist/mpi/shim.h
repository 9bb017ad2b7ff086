// The few calls of MPI that package mpi makes, by a library that is opened at run time.
//
// Open MPI and MPICH have the same functions and differ in their handles: pointers to
// exported objects in the one, numbers fixed by the header in the other. Communicators
// and requests are therefore known to callers by small numbers, and shim_calls.h makes
// the calls once for each kind of handle.

#include <stddef.h>
#include <stdint.h>

enum { SHIM_COMMS = 256, SHIM_REQUESTS = 1024, SHIM_ERROR = 1024 };

enum shim_call { SHIM_ALLREDUCE, SHIM_ALLGATHER, SHIM_ALLTOALL, SHIM_BROADCAST, SHIM_BARRIER };
enum shim_type { SHIM_BYTE, SHIM_FLOAT, SHIM_DOUBLE };
enum shim_op { SHIM_SUM, SHIM_MAX };

// shim_operation is one collective. ALLREDUCE and BROADCAST work on to alone; count is
// elements of ALLREDUCE and BROADCAST, of ALLGATHER and ALLTOALL what one rank sends to
// one other.
struct shim_operation {
	enum shim_call call;
	int comm;
	uintptr_t from, to; // addresses
	int count;
	enum shim_type type;
	enum shim_op op;
	int root;
};

// All return 0, or -1 with what went wrong in err [SHIM_ERROR].

// shim_open loads a library and tells its version. open_mpi is whether it is Open MPI.
int shim_open(const char *path, int *open_mpi, char *err);
// shim_init joins the ranks of the launcher. Communicator 0 is that of all.
int shim_init(int *rank, int *size, char *err);
int shim_finalize(char *err);
int shim_version(char *version, size_t n, char *err);
int shim_split(int comm, int color, int key, int *out, int *rank, int *size, char *err);

// shim_run does an operation; it ends early, with 1, when *stop is set.
int shim_run(const struct shim_operation *o, volatile int *stop, char *err);
// shim_start begins one, and shim_test tells whether it is done. The operation's memory
// must stay where it is until then.
int shim_start(const struct shim_operation *o, int *request, char *err);
int shim_test(int request, int *done, char *err);
