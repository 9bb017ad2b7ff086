package pmi

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// served is a server at work and its end.
type served struct {
	t      *testing.T
	server *server
	addr   string
	end    chan error
}

func serve(t *testing.T, s Server) *served {
	t.Helper()
	return serveContext(t, t.Context(), s)
}

func serveContext(t *testing.T, ctx context.Context, s Server) *served {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w, err := s.begin()
	if err != nil {
		t.Fatal(err)
	}
	v := &served{t, w, l.Addr().String(), make(chan error, 1)}
	go func() { v.end <- w.run(ctx, l) }()
	return v
}

func (v *served) ends(want string) {
	v.t.Helper()
	select {
	case err := <-v.end:
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			v.t.Errorf("the server ends with %v, not %q", err, want)
		}
	case <-time.After(time.Minute):
		v.t.Fatal("the server does not end")
	}
}

// client speaks as MPICH does.
type client struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func call(t *testing.T, addr string) *client {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(time.Minute))
	return &client{t, conn, bufio.NewReader(conn)}
}

// join comes by Join.
func (v *served) join(rank, size int) *client {
	v.t.Helper()
	j, err := Join(v.t.Context(), v.addr, rank, size)
	if err != nil {
		v.t.Errorf("rank %d: %v", rank, err)
		return nil
	}
	return asClient(v.t, j)
}

func asClient(t *testing.T, j *Joined) *client {
	conn, err := net.FileConn(j.File())
	if err != nil {
		t.Error(err)
		return nil
	}
	j.File().Close()
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(time.Minute))
	return &client{t, conn, bufio.NewReader(conn)}
}

// all comes with all ranks.
func (v *served) all(size int) []*client {
	v.t.Helper()
	ranks := make([]*client, size)
	var wg sync.WaitGroup
	for r := range ranks {
		wg.Go(func() { ranks[r] = v.join(r, size) })
	}
	wg.Wait()
	if v.t.Failed() {
		v.t.FailNow()
	}
	return ranks
}

// ask sends a line and compares the answer, which may have more words than wanted.
func (c *client) ask(line, want string) {
	c.t.Helper()
	fmt.Fprintln(c.conn, line)
	c.hear(want)
}

func (c *client) hear(want string) {
	c.t.Helper()
	got, err := c.in.ReadString('\n')
	if err != nil {
		c.t.Errorf("instead of %q: %v", want, err)
		return
	}
	have := " " + strings.TrimSpace(got) + " "
	for word := range strings.FieldsSeq(want) {
		if !strings.Contains(have, " "+word+" ") {
			c.t.Errorf("%q without %s", got, word)
		}
	}
}

func (c *client) closed() {
	c.t.Helper()
	if b, err := io.ReadAll(c.in); len(b) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Errorf("the server says %q, %v", b, err)
	}
}

func TestProtocol(t *testing.T) {
	v := serve(t, Server{Size: 2})
	ranks := v.all(2)
	for r, c := range ranks {
		c.ask("cmd=init pmi_version=1 pmi_subversion=1", "cmd=response_to_init rc=0 pmi_version=1 pmi_subversion=1")
		c.ask("cmd=get_maxes", "cmd=maxes kvsname_max=64 keylen_max=64 vallen_max=800")
		c.ask("cmd=get_appnum", "cmd=appnum appnum=0")
		c.ask("cmd=get_universe_size", "cmd=universe_size size=2")
		c.ask("cmd=get_my_kvsname", "cmd=my_kvsname kvsname=swav")
		c.ask("cmd=get kvsname=swav key=PMI_process_mapping", "cmd=get_result rc=-1")
		c.ask(fmt.Sprintf("cmd=put kvsname=swav key=card-%d value=host=%d#:\\/", r, r), "cmd=put_result rc=0")
		c.ask("cmd=put kvsname=swav key=card-0 value=x", "cmd=put_result rc=-1")
		c.ask("cmd=put kvsname=other key=a value=x", "cmd=put_result rc=-1")
		c.ask("cmd=put kvsname=swav key=b value="+strings.Repeat("x", maxValue+1), "cmd=put_result rc=-1")
		c.ask("cmd=publish_name service=a port=b", "cmd=publish_result rc=-1")
		c.ask("cmd=lookup_name service=a", "cmd=lookup_result rc=-1")
	}
	for range 3 {
		fmt.Fprintln(ranks[0].conn, "cmd=barrier_in")
		ranks[0].conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		if line, err := ranks[0].in.ReadString('\n'); err == nil {
			t.Errorf("%q before all are in the barrier", line)
		}
		ranks[0].conn.SetReadDeadline(time.Now().Add(time.Minute))
		ranks[1].ask("cmd=barrier_in", "cmd=barrier_out")
		ranks[0].hear("cmd=barrier_out")
	}
	ranks[0].ask("cmd=get kvsname=swav key=card-1", "cmd=get_result rc=0 value=host=1#:\\/")
	for _, c := range ranks {
		c.ask("cmd=finalize", "cmd=finalize_ack")
		c.closed()
	}
	v.ends("")
}

// MPICH calls by itself when PMI_PORT and PMI_ID are set.
func TestInitAck(t *testing.T) {
	v := serve(t, Server{Size: 2})
	for r := range 2 {
		c := call(t, v.addr)
		c.ask(fmt.Sprintf("cmd=initack pmiid=%d", r), "cmd=initack")
		c.hear("cmd=set size=2")
		c.hear(fmt.Sprintf("cmd=set rank=%d", r))
		c.hear("cmd=set debug=0")
		c.ask("cmd=init pmi_version=2 pmi_subversion=0", "cmd=response_to_init rc=-1")
		c.ask("cmd=finalize", "cmd=finalize_ack")
	}
	v.ends("")
}

func TestNote(t *testing.T) {
	note := "10.0.0.1:7,[::1]:7/token = 100 % + é"
	v := serve(t, Server{Size: 1, Note: note})
	j, err := Join(t.Context(), v.addr, 0, 1)
	if err != nil || j.Note != note {
		t.Fatalf("%q, %v", j.Note, err)
	}
	if env := j.Env(); len(env) != 3 || env[1] != "PMI_RANK=0" || env[2] != "PMI_SIZE=1" {
		t.Error(env)
	}
	j.File().Close()
	v.ends("rank 0 has ended without a word")
}

func TestMissing(t *testing.T) {
	v := serve(t, Server{Size: 4, Join: 300 * time.Millisecond})
	var wg sync.WaitGroup
	for _, r := range []int{0, 2} {
		wg.Go(func() {
			if _, err := Join(t.Context(), v.addr, r, 4); err == nil || !strings.Contains(err.Error(), "ranks 1, 3 of 4 did not call rank 0 within 300ms") {
				t.Errorf("rank %d: %v", r, err)
			}
		})
	}
	wg.Wait()
	v.ends("ranks 1, 3 of 4")
}

// A rank that ended while it waited may be started again.
func TestComesAgain(t *testing.T) {
	v := serve(t, Server{Size: 2})
	v.came(0)
	c := call(t, v.addr)
	fmt.Fprintln(c.conn, "cmd=swav_join rank=1 size=2")
	v.came(1)
	c.conn.Close()
	v.came(0)
	v.finish(v.all(2))
}

// came waits until so many ranks are there.
func (v *served) came(n int) {
	for {
		v.server.mu.Lock()
		came := v.server.came
		v.server.mu.Unlock()
		if came == n {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func TestRefused(t *testing.T) {
	v := serve(t, Server{Size: 2})
	for want, line := range map[string]string{
		"it counts 3 ranks, rank 0 counts 2":      "cmd=swav_join rank=1 size=3",
		`rank is "2", not a number from 0 to 1`:   "cmd=swav_join rank=2 size=2",
		`pmiid is "-1", not a number from 0 to 1`: "cmd=initack pmiid=-1",
	} {
		c := call(t, v.addr)
		fmt.Fprintln(c.conn, line)
		answer, _ := c.in.ReadString('\n')
		f, err := parse(strings.TrimSpace(answer))
		if err != nil || f["cmd"] != "swav_refuse" || unquote(f["msg"]) != want {
			t.Errorf("%s: %q, %v", line, answer, err)
		}
		c.closed()
	}
	for _, words := range [][]byte{[]byte("GET / HTTP/1.1\r\n"), bytes.Repeat([]byte("x"), 1<<20), []byte("="), []byte("cmd=init pmi_version=1 pmi_subversion=1"), bytes.Repeat([]byte("a=b "), 100)} {
		c := call(t, v.addr)
		c.conn.Write(append(words, '\n'))
		c.closed()
	}
	v.finish(v.all(2))
}

func (v *served) finish(ranks []*client) {
	v.t.Helper()
	for _, c := range ranks {
		c.ask("cmd=finalize", "cmd=finalize_ack")
	}
	v.ends("")
}

// The others learn of a rank's end instead of waiting for it.
func TestLostInBarrier(t *testing.T) {
	for name, c := range map[string]struct {
		last, want string
	}{
		"killed":    {"", "rank 1 has ended without a word"},
		"aborts":    {"cmd=abort exitcode=7", "rank 1 has ended MPI by MPI_Abort, code 7"},
		"finalizes": {"cmd=finalize", "a rank has ended MPI while others wait"},
		"asks more": {"mcmd=spawn", "is not served"},
	} {
		t.Run(name, func(t *testing.T) {
			v := serve(t, Server{Size: 2})
			ranks := v.all(2)
			if c.last == "cmd=finalize" {
				ranks[1].ask(c.last, "cmd=finalize_ack")
			}
			fmt.Fprintln(ranks[0].conn, "cmd=barrier_in")
			switch c.last {
			case "":
				ranks[1].conn.Close()
			case "cmd=finalize":
			default:
				fmt.Fprintln(ranks[1].conn, c.last)
			}
			v.ends(c.want)
			ranks[0].closed()
		})
	}
}

func TestStoreIsBounded(t *testing.T) {
	v := serve(t, Server{Size: 1})
	c := v.all(1)[0]
	value := strings.Repeat("x", maxValue)
	full := 0
	for i := range 2000 {
		fmt.Fprintf(c.conn, "cmd=put kvsname=swav key=%d value=%s\n", i, value)
		line, err := c.in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(line, "rc=-1") {
			full++
		}
	}
	if full < 500 || full > 1500 {
		t.Errorf("%d of 2000 values are refused", full)
	}
	v.finish([]*client{c})
}

func TestContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	v := serveContext(t, ctx, Server{Size: 2})
	ranks := v.all(2)
	fmt.Fprintln(ranks[0].conn, "cmd=barrier_in")
	cancel()
	v.ends("context canceled")
	ranks[0].closed()
	ranks[1].closed()

	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	if _, err := Join(ctx, v.addr, 1, 2); err == nil || !strings.Contains(err.Error(), "rank 1 cannot reach rank 0 at "+v.addr) {
		t.Error(err)
	}
}

func TestBadServer(t *testing.T) {
	for name, s := range map[string]Server{"no ranks": {}, "too many": {Size: maxRanks + 1}, "long note": {Size: 1, Note: strings.Repeat("a", maxNote+1)}} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Serve(t.Context(), l); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestEnv(t *testing.T) {
	env, err := Env("host7:29500", 3, 8)
	if err != nil || strings.Join(env, " ") != "PMI_PORT=host7:29500 PMI_ID=3 PMI_RANK=3 PMI_SIZE=8" {
		t.Error(env, err)
	}
	for _, addr := range []string{"[::1]:7", "host", ""} {
		if env, err := Env(addr, 0, 1); err == nil {
			t.Error(addr, env)
		}
	}
}

// A program of MPICH finds its ranks by this server alone.
func TestMPICH(t *testing.T) {
	mpicc, err := exec.LookPath("mpicc.mpich")
	if err != nil {
		t.Skip("mpicc.mpich is not installed (libmpich-dev)")
	}
	program := filepath.Join(t.TempDir(), "hello")
	if out, err := exec.Command(mpicc, "-o", program, "testdata/hello.c").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for name, start := range map[string]func(v *served, rank, size int) *exec.Cmd{
		"joined": func(v *served, rank, size int) *exec.Cmd {
			cmd := exec.Command(program)
			j, err := Join(t.Context(), v.addr, rank, size)
			if err != nil {
				t.Error(err)
				return cmd
			}
			cmd.ExtraFiles = []*os.File{j.File()} // descriptor 3 there
			cmd.Env = append(os.Environ(), j.Env()...)
			cmd.Env = append(cmd.Env, "PMI_FD=3")
			return cmd
		},
		"by port": func(v *served, rank, size int) *exec.Cmd {
			cmd := exec.Command(program)
			env, err := Env(v.addr, rank, size)
			if err != nil {
				t.Error(err)
			}
			cmd.Env = append(os.Environ(), env...)
			return cmd
		},
	} {
		t.Run(name, func(t *testing.T) {
			const size = 3
			v := serve(t, Server{Size: size})
			var wg sync.WaitGroup
			for r := range size {
				wg.Go(func() {
					cmd := start(v, r, size)
					out, err := cmd.CombinedOutput()
					for _, f := range cmd.ExtraFiles {
						f.Close()
					}
					if want := fmt.Sprintf("rank %d of 3, sum 6\n", r); err != nil || string(out) != want {
						t.Errorf("rank %d: %v, %q", r, err, out)
					}
				})
			}
			wg.Wait()
			v.ends("")
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"cmd=put kvsname=swav key=a value=b=c", "cmd=init", "", " ", "=", "a", "a=b a=c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		words, err := parse(line)
		if err != nil {
			return
		}
		for name, value := range words {
			if name == "" || strings.ContainsAny(name+value, " \n") || strings.Contains(name, "=") {
				t.Fatalf("%q has the word %q=%q", line, name, value)
			}
		}
		if s := unquote(quote(line)); s != line {
			t.Fatalf("%q comes back as %q", line, s)
		}
	})
}
