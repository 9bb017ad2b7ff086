package pmi

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// firstWord is how long a caller may take to say who it is, and anybody to
	// take in a line.
	firstWord = 10 * time.Second
	// Of what ranks put: MPICH's addresses are a few hundred bytes each.
	storeBase, storeRank = 1 << 20, 64 << 10
)

// Server is what Serve needs to know.
type Server struct {
	Size int           // the number of ranks
	Note string        // a text that Join gives to every rank, at most 2,048 bytes
	Join time.Duration // how long ranks may take to come; default 60 s
}

// server is a Server at work.
type server struct {
	Server
	together chan struct{} // closed when all ranks have come
	failed   chan struct{} // closed when err is set
	wg       sync.WaitGroup

	mu      sync.Mutex // never held while a socket is written or read
	callers map[net.Conn]bool
	ranks   []*session
	came    int
	left    int
	values  map[string]string
	bytes   int
	barrier *barrier
	err     error
	done    bool
}

// barrier is where ranks wait for each other.
type barrier struct {
	in  int
	out chan struct{}
}

// session is a rank's connection.
type session struct {
	conn net.Conn
	in   *bufio.Reader
	rank int
}

// Serve answers the ranks that call on l until all have ended in order, and closes
// it. It ends with an error, and all ranks' connections, when ranks have not come
// in time, when one aborts or ends without a word, and with ctx.
func (s Server) Serve(ctx context.Context, l net.Listener) error {
	w, err := s.begin()
	if err != nil {
		l.Close()
		return err
	}
	return w.run(ctx, l)
}

func (s Server) begin() (*server, error) {
	if s.Size < 1 || s.Size > maxRanks {
		return nil, fmt.Errorf("pmi: %d ranks", s.Size)
	}
	if len(s.Note) > maxNote {
		return nil, fmt.Errorf("pmi: a note of %d bytes", len(s.Note))
	}
	if s.Join <= 0 {
		s.Join = time.Minute
	}
	return &server{
		Server: s, together: make(chan struct{}), failed: make(chan struct{}), callers: map[net.Conn]bool{},
		ranks: make([]*session, s.Size), values: map[string]string{}, barrier: &barrier{out: make(chan struct{})},
	}, nil
}

func (s *server) run(ctx context.Context, l net.Listener) error {
	defer l.Close()
	s.wg.Go(func() { s.accept(l) })
	limit := time.NewTimer(s.Join)
	defer limit.Stop()
	select {
	case <-s.together:
		l.Close() // nobody else is expected
	case <-limit.C:
		s.fail(errors.New(s.missing()))
	case <-s.failed:
	case <-ctx.Done():
		s.fail(ctx.Err())
	}
	ended := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(ended)
	}()
	l.Close()
	select {
	case <-ended:
	case <-s.failed:
	case <-ctx.Done():
		s.fail(ctx.Err())
	}
	s.mu.Lock()
	s.done = true
	for conn := range s.callers {
		// What was written last goes out first.
		conn.SetReadDeadline(time.Now())
	}
	err := s.err
	s.mu.Unlock()
	<-ended
	return err
}

// fail keeps the first failure, which ends everything.
func (s *server) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failLocked(err)
}

func (s *server) failLocked(err error) {
	if s.err == nil && !s.done {
		s.err = err
		close(s.failed)
	}
}

// missing names the ranks that have not come.
func (s *server) missing() string {
	const most = 8
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	n := 0
	for r, c := range s.ranks {
		if c == nil {
			if n++; n <= most {
				names = append(names, strconv.Itoa(r))
			}
		}
	}
	what := "rank " + strings.Join(names, ", ")
	if n > 1 {
		what = "ranks " + strings.Join(names, ", ")
	}
	if n > most {
		what += fmt.Sprintf(" and %d more", n-most)
	}
	return fmt.Sprintf("%s of %d did not call rank 0 within %s: not started, another MASTER_ADDR or MASTER_PORT, or a firewall is between", what, s.Size, s.Join)
}

func (s *server) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // too many open files: some are strangers' and will close
			select {
			case <-s.failed:
				return
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		s.mu.Lock()
		full := s.done || len(s.callers) >= 64+2*s.Size
		if !full {
			s.callers[conn] = true
			s.wg.Go(func() { s.serve(conn) })
		}
		s.mu.Unlock()
		if full {
			conn.Close()
		}
	}
}

// serve answers one caller until its connection ends.
func (s *server) serve(conn net.Conn) {
	defer func() {
		conn.Close()
		s.mu.Lock()
		delete(s.callers, conn)
		s.mu.Unlock()
	}()
	conn.SetReadDeadline(time.Now().Add(firstWord))
	c := &session{conn: conn, in: bufio.NewReaderSize(conn, maxLine)}
	f, err := readLine(c.in)
	if err != nil {
		return
	}
	if f["cmd"] != "swav_join" && f["cmd"] != "initack" {
		return // a stranger
	}
	if err := s.admit(c, f); err != nil {
		c.say("cmd=swav_refuse msg=%s", quote(err.Error()))
		return
	}
	if f["cmd"] == "swav_join" && !s.wait(c) {
		return
	}
	for {
		f, err := readLine(c.in)
		if err != nil {
			s.fail(fmt.Errorf("rank %d has ended without a word", c.rank))
			return
		}
		if !s.answer(c, f) {
			return
		}
	}
}

// admit makes a caller a rank.
func (s *server) admit(c *session, f fields) error {
	word := map[string]string{"swav_join": "rank", "initack": "pmiid"}[f["cmd"]]
	rank, err := f.number(word, s.Size)
	if err != nil {
		return err
	}
	if size := f["size"]; word == "rank" && size != strconv.Itoa(s.Size) {
		return fmt.Errorf("it counts %.20s ranks, rank 0 counts %d", size, s.Size)
	}
	s.mu.Lock()
	if s.ranks[rank] != nil {
		s.mu.Unlock()
		return fmt.Errorf("there is a rank %d already", rank)
	}
	if s.done || s.err != nil {
		s.mu.Unlock()
		return errors.New("rank 0 is ending")
	}
	c.rank = rank
	s.ranks[rank] = c
	// Deadlines are set under the lock, so that the one of the end stays the last.
	c.conn.SetReadDeadline(time.Time{})
	if s.came++; s.came == s.Size {
		close(s.together)
	}
	s.mu.Unlock()
	if word == "pmiid" {
		c.say("cmd=initack\ncmd=set size=%d\ncmd=set rank=%d\ncmd=set debug=0", s.Size, rank)
	}
	return nil
}

// wait holds a rank until all have come; false: they will not, or it is gone.
func (s *server) wait(c *session) bool {
	// A rank says nothing while it waits: what can be read is its end.
	gone := make(chan struct{})
	stop := make(chan struct{})
	go func() {
		defer close(gone)
		if _, err := c.in.Peek(1); err == nil {
			<-stop
		}
	}()
	defer func() {
		close(stop)
		c.conn.SetReadDeadline(time.Now()) // wakes the reader
		<-gone
		s.mu.Lock()
		if !s.done {
			c.conn.SetReadDeadline(time.Time{})
		}
		s.mu.Unlock()
	}()
	select {
	case <-s.together:
		return c.say("cmd=swav_go note=%s", quote(s.Note)) == nil
	case <-s.failed:
		s.mu.Lock()
		err := s.err
		s.mu.Unlock()
		c.say("cmd=swav_refuse msg=%s", quote(err.Error()))
		return false
	case <-gone:
		s.mu.Lock()
		defer s.mu.Unlock()
		select {
		case <-s.together:
			s.failLocked(fmt.Errorf("rank %d has ended without a word", c.rank))
		default: // it may be started again
			s.ranks[c.rank] = nil
			s.came--
		}
		return false
	}
}

// say writes lines.
func (c *session) say(format string, args ...any) error {
	c.conn.SetWriteDeadline(time.Now().Add(firstWord))
	_, err := fmt.Fprintf(c.conn, format+"\n", args...)
	return err
}

// answer does what a line asks for; false: it was the last.
func (s *server) answer(c *session, f fields) bool {
	var err error
	switch cmd := f["cmd"]; cmd {
	case "init":
		rc := 0
		if f["pmi_version"] != "1" {
			rc = -1
		}
		err = c.say("cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=%d", rc)
	case "get_maxes":
		err = c.say("cmd=maxes kvsname_max=%d keylen_max=%d vallen_max=%d", maxName, maxName, maxValue)
	case "get_appnum":
		err = c.say("cmd=appnum appnum=0")
	case "get_my_kvsname":
		err = c.say("cmd=my_kvsname kvsname=%s", store)
	case "get_universe_size":
		err = c.say("cmd=universe_size size=%d", s.Size)
	case "put":
		if err := s.put(f["kvsname"], f["key"], f["value"]); err != nil {
			return c.say("cmd=put_result rc=-1 msg=%s", strings.ReplaceAll(err.Error(), " ", "_")) == nil
		}
		err = c.say("cmd=put_result rc=0 msg=success")
	case "get":
		s.mu.Lock()
		value, ok := s.values[f["key"]]
		s.mu.Unlock()
		if !ok || f["kvsname"] != store {
			return c.say("cmd=get_result rc=-1 msg=key_not_found value=unknown") == nil
		}
		err = c.say("cmd=get_result rc=0 msg=success value=%s", value)
	case "barrier_in":
		if !s.meet() {
			return false
		}
		err = c.say("cmd=barrier_out")
	case "publish_name":
		err = c.say("cmd=publish_result rc=-1 msg=not_supported")
	case "unpublish_name":
		err = c.say("cmd=unpublish_result rc=-1 msg=not_supported")
	case "lookup_name":
		err = c.say("cmd=lookup_result rc=-1 msg=not_supported")
	case "finalize":
		s.mu.Lock()
		s.left++
		s.mu.Unlock()
		c.say("cmd=finalize_ack")
		return false
	case "abort":
		s.fail(fmt.Errorf("rank %d has ended MPI by MPI_Abort, code %.20s", c.rank, f["exitcode"]))
		return false
	default:
		s.fail(fmt.Errorf("rank %d asks for %.40q, which is not served", c.rank, cmd))
		return false
	}
	if err != nil {
		s.fail(fmt.Errorf("rank %d is out of reach: %w", c.rank, err))
	}
	return err == nil
}

// put stores a value. Keys are never replaced by others' values: PMI has each
// written once.
func (s *server) put(name, key, value string) error {
	switch {
	case name != store:
		return errors.New("no such store")
	case key == "" || len(key) > maxName || len(value) > maxValue:
		return errors.New("key or value too long")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.values[key]; ok {
		return errors.New("key is there already")
	}
	const overhead = 128 // of a map's entry
	if s.bytes+len(key)+len(value)+overhead > storeBase+storeRank*s.Size {
		return errors.New("store is full")
	}
	s.bytes += len(key) + len(value) + overhead
	s.values[key] = value
	return nil
}

// meet waits until all ranks are in the barrier; false: they never will be.
func (s *server) meet() bool {
	s.mu.Lock()
	b := s.barrier
	if b.in++; b.in == s.Size {
		s.barrier = &barrier{out: make(chan struct{})}
		close(b.out)
	}
	if s.left > 0 {
		s.failLocked(errors.New("a rank has ended MPI while others wait for it"))
	}
	s.mu.Unlock()
	select {
	case <-b.out:
		return true
	case <-s.failed:
		return false
	}
}
