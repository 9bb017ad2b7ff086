package watch

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The same over real sockets, on which strangers may call.
func TestSocketsAndStrangers(t *testing.T) {
	hub, err := Listen(0)
	if err != nil {
		t.Fatal(err)
	}
	if len(hub.Address()) >= 1000 {
		t.Errorf("an address of %d bytes", len(hub.Address()))
	}
	_, port, _ := net.SplitHostPort(hub.listener.Addr().String())
	hello := message{Kind: kindHello, Version: version, Rank: 1, Size: 3}
	wrong := hello
	wrong.Key = makeKeys(make([]byte, tokenBytes)).call
	var strangers sync.WaitGroup
	for _, words := range [][]byte{
		nil, []byte("GET / HTTP/1.1\r\n\r\n"), bytes.Repeat([]byte("x"), 1<<20), append(make([]byte, 100), '\n'),
		hello.encode(), wrong.encode(), message{Kind: kindJoin}.encode(), []byte("{\"kind\":\"hello\",\"rank\":-7}\n"),
	} {
		strangers.Go(func() {
			conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", port))
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			conn.Write(words)
			if words == nil {
				return
			}
			conn.SetReadDeadline(time.Now().Add(30 * time.Second))
			if answer, err := io.ReadAll(conn); len(answer) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%.30q is answered by %q, %v", words, answer, err)
			}
		})
	}
	watches := make([]*Watch, 3)
	var wg sync.WaitGroup
	for r := range watches {
		wg.Go(func() {
			cfg := Config{Rank: r, Size: 3, Address: hub.Address()}
			switch r {
			case 0:
				cfg.Hub = hub
			case 2:
				strangers.Wait() // rank 0 listens until all have come
			}
			w, err := Start(t.Context(), cfg)
			if err != nil {
				t.Errorf("rank %d: %v", r, err)
			}
			watches[r] = w
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	watches[1].Abort(errors.New("disk full"))
	for r, w := range watches {
		<-w.Failed()
		var l *Lost
		if !errors.As(w.Err(), &l) || l.Rank != 1 || l.Reason != "disk full" {
			t.Errorf("rank %d: %v", r, w.Err())
		}
		w.Close()
	}
}

// TestMain is one rank of the processes of TestProcesses when it is asked to be.
func TestMain(m *testing.M) {
	rank, err := strconv.Atoi(os.Getenv("SWAV_WATCH_RANK"))
	if err != nil {
		os.Exit(m.Run())
	}
	os.Exit(process(rank))
}

// process is a rank that runs until the group fails, and says what it knows then.
func process(rank int) int {
	const size = 3
	cfg := Config{Rank: rank, Size: size, Host: "node" + strconv.Itoa(rank), Address: os.Getenv("SWAV_WATCH_ADDRESS"),
		Interval: 100 * time.Millisecond, Patience: 3 * time.Second}
	if rank == 0 {
		hub, err := Listen(0)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Println(hub.Address())
		cfg.Hub = hub
	}
	w, err := Start(context.Background(), cfg)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("together")
	<-w.Failed()
	var l *Lost
	errors.As(w.Err(), &l)
	w.Close()
	json.NewEncoder(os.Stdout).Encode(verdict{l.Rank, l.Error()})
	return 0
}

type verdict struct {
	Rank int
	Text string
}

// rankProcess is a process that is one rank.
type rankProcess struct {
	cmd *exec.Cmd
	out *bufio.Reader
}

func startRank(t *testing.T, rank int, address string) *rankProcess {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "SWAV_WATCH_RANK="+strconv.Itoa(rank), "SWAV_WATCH_ADDRESS="+address)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return &rankProcess{cmd, bufio.NewReader(out)}
}

func (p *rankProcess) line(t *testing.T) string {
	t.Helper()
	s, err := p.out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(s)
}

func (p *rankProcess) verdict(t *testing.T) (v verdict) {
	t.Helper()
	if s := p.line(t); json.Unmarshal([]byte(s), &v) != nil {
		t.Fatalf("a process says %q", s)
	}
	return v
}

// Processes are killed and stopped; the others name them, and one of them speaks.
func TestProcesses(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes and waits for their silence")
	}
	for _, c := range []struct {
		signal syscall.Signal
		rank   int
		want   string
	}{
		{syscall.SIGKILL, 1, "has ended without a word"},
		{syscall.SIGKILL, 0, "has ended without a word"},
		{syscall.SIGSTOP, 2, "has been silent"},
		{syscall.SIGSTOP, 0, "has been silent"},
	} {
		t.Run(fmt.Sprintf("%v rank %d", c.signal, c.rank), func(t *testing.T) {
			t.Parallel()
			ranks := []*rankProcess{startRank(t, 0, "")}
			address := ranks[0].line(t)
			ranks = append(ranks, startRank(t, 1, address), startRank(t, 2, address))
			for r, p := range ranks {
				if s := p.line(t); s != "together" {
					t.Fatalf("rank %d says %q", r, s)
				}
			}
			ranks[c.rank].cmd.Process.Signal(c.signal)
			for r, p := range ranks {
				if r == c.rank {
					continue
				}
				v := p.verdict(t)
				if v.Rank != c.rank || !strings.Contains(v.Text, c.want) {
					t.Errorf("rank %d: %+v", r, v)
				}
			}
			if c.signal == syscall.SIGSTOP {
				// The one that wakes is told that it was given up, and blames nobody else.
				ranks[c.rank].cmd.Process.Signal(syscall.SIGCONT)
				if v := ranks[c.rank].verdict(t); v.Rank != c.rank {
					t.Errorf("the rank that woke: %+v", v)
				}
			}
		})
	}
}
