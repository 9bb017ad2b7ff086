// The calls for one kind of handle: included with H, its type, and F(name), which makes
// names of their own.

static struct {
	int (*init_thread)(int *, char ***, int, int *);
	int (*finalize)(void);
	int (*comm_rank)(H, int *);
	int (*comm_size)(H, int *);
	int (*comm_split)(H, int, int, H *);
	int (*comm_set_errhandler)(H, H);
	int (*error_string)(int, char *, int *);
	int (*get_library_version)(char *, int *);
	int (*test)(H *, int *, void *);
	int (*iallreduce)(const void *, void *, int, H, H, H, H *);
	int (*iallgather)(const void *, int, H, void *, int, H, H, H *);
	int (*ialltoall)(const void *, int, H, void *, int, H, H, H *);
	int (*ibcast)(void *, int, H, int, H, H *);
	int (*ibarrier)(H, H *);
} F(call);

static H F(comms)[SHIM_COMMS];
static H F(requests)[SHIM_REQUESTS];
static H F(types)[3];
static H F(ops)[2];
static H F(errors_return);

static int F(fail)(int code, const char *what, char *err) {
	char text[SHIM_ERROR] = "";
	int n = 0;
	F(call).error_string(code, text, &n);
	snprintf(err, SHIM_ERROR, "%s: %s", what, text[0] ? text : "failed");
	return -1;
}

static int F(load)(char *err) {
	struct {
		void **to;
		const char *name;
	} all[] = {
		{(void **)&F(call).init_thread, "MPI_Init_thread"},
		{(void **)&F(call).finalize, "MPI_Finalize"},
		{(void **)&F(call).comm_rank, "MPI_Comm_rank"},
		{(void **)&F(call).comm_size, "MPI_Comm_size"},
		{(void **)&F(call).comm_split, "MPI_Comm_split"},
		{(void **)&F(call).comm_set_errhandler, "MPI_Comm_set_errhandler"},
		{(void **)&F(call).error_string, "MPI_Error_string"},
		{(void **)&F(call).get_library_version, "MPI_Get_library_version"},
		{(void **)&F(call).test, "MPI_Test"},
		{(void **)&F(call).iallreduce, "MPI_Iallreduce"},
		{(void **)&F(call).iallgather, "MPI_Iallgather"},
		{(void **)&F(call).ialltoall, "MPI_Ialltoall"},
		{(void **)&F(call).ibcast, "MPI_Ibcast"},
		{(void **)&F(call).ibarrier, "MPI_Ibarrier"},
	};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		if (!(*all[i].to = dlsym(library, all[i].name))) {
			snprintf(err, SHIM_ERROR, "it has no %s: MPI 3 is needed", all[i].name);
			return -1;
		}
	return 0;
}

static int F(enter)(int comm, int *rank, int *size, char *err) {
	int code;
	const H h = F(comms)[comm];
	if ((code = F(call).comm_set_errhandler(h, F(errors_return))) || (code = F(call).comm_rank(h, rank)) || (code = F(call).comm_size(h, size)))
		return F(fail)(code, "a communicator", err);
	return 0;
}

static int F(init)(int *rank, int *size, char *err) {
	int have, code = F(call).init_thread(NULL, NULL, THREAD_SERIALIZED, &have);
	if (code)
		return F(fail)(code, "MPI_Init_thread", err);
	if (have < THREAD_SERIALIZED) {
		snprintf(err, SHIM_ERROR, "this library was built for one thread (level %d): MPI_THREAD_SERIALIZED is needed", have);
		return -1;
	}
	return F(enter)(0, rank, size, err);
}

static int F(split)(int comm, int color, int key, int to, int *rank, int *size, char *err) {
	int code = F(call).comm_split(F(comms)[comm], color, key, &F(comms)[to]);
	return code ? F(fail)(code, "MPI_Comm_split", err) : F(enter)(to, rank, size, err);
}

static int F(start)(const struct shim_operation *o, int request, char *err) {
	const H comm = F(comms)[o->comm], type = F(types)[o->type];
	H *r = &F(requests)[request];
	const void *from = (const void *)o->from;
	void *to = (void *)o->to;
	int code = 0;
	switch (o->call) {
	case SHIM_ALLREDUCE:
		code = F(call).iallreduce(in_place, to, o->count, type, F(ops)[o->op], comm, r);
		break;
	case SHIM_ALLGATHER:
		code = F(call).iallgather(from, o->count, type, to, o->count, type, comm, r);
		break;
	case SHIM_ALLTOALL:
		code = F(call).ialltoall(from, o->count, type, to, o->count, type, comm, r);
		break;
	case SHIM_BROADCAST:
		code = F(call).ibcast(to, o->count, type, o->root, comm, r);
		break;
	case SHIM_BARRIER:
		code = F(call).ibarrier(comm, r);
		break;
	}
	return code ? F(fail)(code, names[o->call], err) : 0;
}

static int F(test)(int request, int *done, char *err) {
	int code = F(call).test(&F(requests)[request], done, status_ignore);
	return code ? F(fail)(code, "MPI_Test", err) : 0;
}

#undef H
#undef F
