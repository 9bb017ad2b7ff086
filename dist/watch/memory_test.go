package watch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// memory is a network without sockets, so that tests run in synctest's time.
type memory struct {
	calls  chan net.Conn
	closed chan struct{}
	once   sync.Once
	mu     sync.Mutex
	wires  []*wire // in the order of the calls
}

func newMemory() *memory {
	return &memory{calls: make(chan net.Conn), closed: make(chan struct{})}
}

func (m *memory) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 1} }
func (m *memory) Close() error   { m.once.Do(func() { close(m.closed) }); return nil }

func (m *memory) Accept() (net.Conn, error) {
	select {
	case c := <-m.calls:
		return c, nil
	case <-m.closed:
		return nil, net.ErrClosed
	}
}

func (m *memory) dial(ctx context.Context, _ string) (net.Conn, error) {
	a, b := net.Pipe()
	cut := new(atomic.Bool)
	near, far := &wire{Conn: a, cut: cut}, &wire{Conn: b, cut: cut}
	select {
	case m.calls <- far:
	case <-m.closed:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	m.mu.Lock()
	m.wires = append(m.wires, near)
	m.mu.Unlock()
	return near, nil
}

// wire is a connection whose cable can be pulled: what is written vanishes, and
// neither side hears of the other's end.
type wire struct {
	net.Conn
	cut  *atomic.Bool
	done atomic.Bool
}

func (w *wire) Write(b []byte) (int, error) {
	if w.cut.Load() {
		return len(b), nil
	}
	return w.Conn.Write(b)
}

func (w *wire) Close() error {
	if w.cut.Load() && !w.done.Swap(true) {
		w.Conn.SetReadDeadline(time.Now()) // ends this side's read only
		return nil
	}
	return w.Conn.Close()
}

// party is a whole group in this process.
type party struct {
	t     *testing.T
	net   *memory
	hub   *Hub
	watch []*Watch
}

func newParty(t *testing.T) *party {
	m := newMemory()
	return &party{t: t, net: m, hub: newHub(m, []string{"10.0.0.1"})}
}

func (p *party) config(rank, size int) Config {
	cfg := Config{Rank: rank, Size: size, Host: fmt.Sprintf("node%d", rank), Address: p.hub.Address(), dial: p.net.dial}
	if rank == 0 {
		cfg.Hub = p.hub
	}
	return cfg
}

// start brings size ranks together; within synctest it takes no time.
func (p *party) start(size int) *party {
	p.t.Helper()
	p.expect(size)
	var wg sync.WaitGroup
	for r := range size {
		wg.Go(func() {
			w, err := Start(p.t.Context(), p.config(r, size))
			if err != nil {
				p.t.Errorf("rank %d: %v", r, err)
			}
			p.watch[r] = w
		})
	}
	wg.Wait()
	if p.t.Failed() {
		p.t.FailNow()
	}
	return p
}

// expect makes room for the ranks, which the test's end closes.
func (p *party) expect(size int) {
	p.watch = make([]*Watch, size)
	p.t.Cleanup(func() {
		p.net.Close()
		var wg sync.WaitGroup
		for _, w := range p.watch {
			if w != nil {
				wg.Go(func() { w.Close() })
			}
		}
		wg.Wait()
	})
}

// wire is the connection of a rank to rank 0.
func (p *party) wireOf(rank int) *wire { return p.watch[rank].peers[0].link.conn.(*wire) }

// lost waits for the group's failure as rank sees it.
func (p *party) lost(rank int, within time.Duration) *Lost {
	p.t.Helper()
	select {
	case <-p.watch[rank].Failed():
	case <-time.After(within):
		p.t.Fatalf("rank %d knows of no failure after %s", rank, within)
	}
	var l *Lost
	if !errors.As(p.watch[rank].Err(), &l) {
		p.t.Fatalf("rank %d: %v", rank, p.watch[rank].Err())
	}
	return l
}

// fine says that nobody knows of a failure after a while.
func (p *party) fine(ranks ...int) {
	p.t.Helper()
	time.Sleep(3 * time.Minute)
	for _, r := range ranks {
		if err := p.watch[r].Err(); err != nil {
			p.t.Errorf("rank %d: %v", r, err)
		}
	}
}

// inMemory runs a test in synctest's time: waiting is free, and goroutines that
// stay behind are a failure.
func inMemory(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}
