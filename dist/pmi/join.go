package pmi

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"
)

// Joined is a rank's connection to the server, ready for MPI_Init in this process.
type Joined struct {
	Note string // the server's
	file *os.File
	rank int
	size int
}

// Join calls the server at addr (host:port) as a rank and waits until all ranks
// have come. It calls again while nobody listens there, until ctx ends.
func Join(ctx context.Context, addr string, rank, size int) (*Joined, error) {
	pause := 50 * time.Millisecond
	for {
		j, err := join(ctx, addr, rank, size)
		var again *unreachable
		if err == nil || !errors.As(err, &again) {
			return j, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("rank %d cannot reach rank 0 at %s: %w: is rank 0 there, and no firewall between", rank, addr, again.error)
		case <-time.After(pause):
		}
		pause = min(2*pause, time.Second)
	}
}

// unreachable is an end that another call may not meet.
type unreachable struct{ error }

func join(ctx context.Context, addr string, rank, size int) (*Joined, error) {
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, &unreachable{err}
	}
	defer conn.Close() // the file below is another
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Now()) })
	defer stop()
	if _, err := fmt.Fprintf(conn, "cmd=swav_join rank=%d size=%d\n", rank, size); err != nil {
		return nil, &unreachable{err}
	}
	// The server says one line and waits, so the reader takes in no more.
	f, err := readLine(bufio.NewReaderSize(conn, maxReply))
	switch {
	case err != nil:
		return nil, &unreachable{err}
	case f["cmd"] == "swav_refuse":
		return nil, fmt.Errorf("rank 0 at %s: %s", addr, unquote(f["msg"]))
	case f["cmd"] != "swav_go":
		return nil, fmt.Errorf("what listens at %s is not rank 0 of swav", addr)
	}
	file, err := conn.(*net.TCPConn).File()
	if err != nil {
		return nil, fmt.Errorf("pmi: %w", err)
	}
	// MPICH's client is simple: it wants reads to wait.
	if err := syscall.SetNonblock(int(file.Fd()), false); err != nil {
		file.Close()
		return nil, fmt.Errorf("pmi: %w", err)
	}
	return &Joined{Note: unquote(f["note"]), file: file, rank: rank, size: size}, nil
}

// Env is the variables by which MPI_Init of this process goes on with the
// connection. It is MPI's from then on: MPI_Finalize closes it.
func (j *Joined) Env() []string {
	return []string{"PMI_FD=" + strconv.Itoa(int(j.file.Fd())), "PMI_RANK=" + strconv.Itoa(j.rank), "PMI_SIZE=" + strconv.Itoa(j.size)}
}

// File is the connection, for a process other than this one.
func (j *Joined) File() *os.File { return j.file }
