#include <mpi.h>
#include <stdio.h>
int main(void) {
	int rank, size; double x, sum = 0;
	MPI_Init(NULL, NULL);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	MPI_Comm_size(MPI_COMM_WORLD, &size);
	x = rank + 1;
	MPI_Allreduce(&x, &sum, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
	printf("rank %d of %d, sum %g\n", rank, size, sum);
	MPI_Finalize();
	return 0;
}
