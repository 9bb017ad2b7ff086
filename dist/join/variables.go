package join

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"swav/dist/mpi"
	"swav/dist/pmi"
)

// meetTime is how long ranks that know each other by variables alone may take to come:
// pods and nodes start at different times.
const meetTime = 10 * time.Minute

// connection is MPI's to the server of package pmi. It stays open as long as the process.
var connection *pmi.Joined

// Variables joins ranks that no launcher of MPI has started, but know their numbers and
// rank 0's address (host:port), as from torchrun's variables. Rank 0's process serves
// what MPICH's library asks a launcher for.
func Variables(ctx context.Context, master string, port, rank, size int, o Options) (*Group, error) {
	host := master
	var served chan struct{} // closed when rank 0 has nobody to serve any more
	if rank == 0 {
		l, err := net.Listen("tcp", ":"+strconv.Itoa(port))
		if err != nil {
			return nil, fmt.Errorf("rank 0 cannot listen where the ranks are to meet: %w: choose another MASTER_PORT", err)
		}
		host = "127.0.0.1" // its own name may not be known yet
		served = make(chan struct{})
		go func() {
			defer close(served)
			_ = pmi.Server{Size: size, Join: meetTime}.Serve(context.WithoutCancel(ctx), l)
		}()
	}
	meet, cancel := context.WithTimeout(ctx, meetTime)
	defer cancel()
	var err error
	if connection, err = pmi.Join(meet, net.JoinHostPort(host, strconv.Itoa(port)), rank, size); err != nil {
		return nil, err
	}
	for _, v := range connection.Env() {
		name, value, _ := strings.Cut(v, "=")
		if err := os.Setenv(name, value); err != nil {
			return nil, err
		}
	}
	g, err := MPI(ctx, mpi.MPICH, o)
	if err == nil {
		g.served = served
	}
	return g, err
}
