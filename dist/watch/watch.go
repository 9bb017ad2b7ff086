// Package watch is the side channel of a group of processes that compute
// together: who is there, who is lost and why, and one rank's reason to stop told
// to all. The engine that moves the numbers (MPI) waits for ever for a rank that
// is gone; this tells that it is.
//
// Rank 0 listens, the others hold one connection each to it. Every rank sends a
// sign of life each Interval. A connection that ends without a goodbye is a
// process that is gone, which is known at once; silence for Patience is a process
// that is stopped or a network that is down. The first failure counts, and rank 0
// tells it to all. The loss of rank 0 itself is noticed by each of the others.
//
// It moves no data, starts and ends no processes and prints nothing.
package watch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// Config is what Start needs to know. Zero durations mean the defaults.
type Config struct {
	Rank int // this rank's number, from 0
	Size int // the number of ranks

	Hub     *Hub   // rank 0: what listens; Start takes it over
	Address string // the others: what Hub.Address gave rank 0

	Host     string        // this machine's name in messages; default: the host's name
	Interval time.Duration // between signs of life; default 1 s
	Patience time.Duration // silence that counts as a loss; default 15 s
	Join     time.Duration // how long ranks may take to come; default 60 s

	dial func(ctx context.Context, address string) (net.Conn, error)
}

// told is how long an end waits until the others have confirmed that they know.
const told = 2 * time.Second

// Lost is why the group cannot go on.
type Lost struct {
	Rank    int    // the rank that failed; -1: the group never came together
	Host    string // its machine
	PID     int    // its process there
	Aborted bool   // it stopped by itself, for Reason
	Reason  string // what happened; otherwise a predicate: "has been silent for 15 s …"

	cause error
}

func (l *Lost) Error() string {
	switch {
	case l.Rank < 0:
		return l.Reason
	case l.Aborted:
		return fmt.Sprintf("rank %d (host %s): %s", l.Rank, l.Host, l.Reason)
	}
	return fmt.Sprintf("rank %d (host %s, process %d) %s", l.Rank, l.Host, l.PID, l.Reason)
}

// Unwrap is the error that this process gave to Abort.
func (l *Lost) Unwrap() error { return l.cause }

// Late is a rank that keeps the others waiting.
type Late struct {
	Rank   int
	Host   string
	PID    int
	Waited time.Duration // how long the first of the others has waited
}

// Watch is one rank's end of the side channel. Its methods may be called by many
// goroutines.
type Watch struct {
	cfg      Config
	failed   chan struct{} // closed when lost is set
	together chan struct{} // closed when all ranks have joined
	stop     chan struct{} // closed by Close
	wg       sync.WaitGroup

	mu      sync.Mutex // never held while a socket is written or read
	peers   []*peer    // by rank; nil: not there, or only rank 0 knows
	joined  int        // how many have joined
	lost    *Lost
	closed  bool
	pending map[net.Conn]bool // connections that have not joined yet
	hub     net.Listener
	keys    keys
}

// peer is a rank as this one sees it.
type peer struct {
	rank  int
	host  string
	pid   int
	link  *link // nil: this rank itself
	heard time.Time
	step  int
	moved time.Time // when step last changed
	left  bool
}

// listens says whether a peer is to be told things. Rank 0 is, when it has left:
// it passes them on until it closes.
func (p *peer) listens() bool { return p != nil && p.link != nil && (!p.left || p.rank == 0) }

// Start joins the group and returns when all ranks have. It fails when one of them
// has not come in time, and names it; ctx ends the joining only.
func Start(ctx context.Context, cfg Config) (*Watch, error) {
	if cfg.Size < 1 || cfg.Size > maxRanks || cfg.Rank < 0 || cfg.Rank >= cfg.Size {
		return nil, fmt.Errorf("watch: rank %d of %d", cfg.Rank, cfg.Size)
	}
	w := newWatch(cfg)
	var err error
	if cfg.Rank == 0 {
		err = w.gather(ctx)
	} else {
		err = w.join(ctx)
	}
	if err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

// newWatch fills in the defaults.
func newWatch(cfg Config) *Watch {
	if cfg.Host == "" {
		cfg.Host, _ = os.Hostname()
	}
	cfg.Host = clean(cfg.Host, maxHost)
	for d, value := range map[*time.Duration]time.Duration{
		&cfg.Interval: time.Second, &cfg.Patience: 15 * time.Second, &cfg.Join: time.Minute,
	} {
		if *d <= 0 {
			*d = value
		}
	}
	if cfg.dial == nil {
		cfg.dial = func(ctx context.Context, address string) (net.Conn, error) {
			return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", address)
		}
	}
	now := time.Now()
	w := &Watch{
		cfg: cfg, failed: make(chan struct{}), together: make(chan struct{}), stop: make(chan struct{}),
		peers: make([]*peer, cfg.Size), pending: map[net.Conn]bool{}, joined: 1,
	}
	w.peers[cfg.Rank] = &peer{rank: cfg.Rank, host: cfg.Host, pid: os.Getpid(), heard: now, moved: now}
	return w
}

// Failed is closed at the group's first failure, which Err then tells.
func (w *Watch) Failed() <-chan struct{} { return w.failed }

// Err is the group's first failure, a *Lost, or nil.
func (w *Watch) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lost == nil {
		return nil
	}
	return w.lost
}

// Report says that this rank has the data of a step, a number that grows. It goes out
// with the next sign of life.
func (w *Watch) Report(step int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.peers[w.cfg.Rank].reported(step)
}

func (p *peer) reported(step int) {
	if step != p.step {
		p.step, p.moved = step, time.Now()
	}
}

// Late is the ranks that have not reported the data of a step that another rank has had
// for at least after, in their order. Rank 0 knows of all, the others of rank 0 and
// themselves.
func (w *Watch) Late(after time.Duration) []Late {
	w.mu.Lock()
	defer w.mu.Unlock()
	newest := 0
	for _, p := range w.peers {
		if p != nil {
			newest = max(newest, p.step)
		}
	}
	var waited time.Duration
	for _, p := range w.peers {
		if p != nil && p.step == newest {
			waited = max(waited, time.Since(p.moved))
		}
	}
	if waited < after {
		return nil
	}
	var late []Late
	for _, p := range w.peers {
		if p != nil && !p.left && p.step < newest {
			late = append(late, Late{p.rank, p.host, p.pid, waited})
		}
	}
	return late
}

// Abort tells all ranks that this one cannot go on and why. It returns when rank 0
// knows, and on rank 0 when all do, or after a few seconds. A failure that came
// before stays the group's.
func (w *Watch) Abort(err error) {
	if err == nil {
		err = errors.New("stopped without a reason")
	}
	w.mu.Lock()
	me, zero := w.peers[w.cfg.Rank], w.peers[0]
	w.mu.Unlock()
	l := &Lost{Rank: me.rank, Host: me.host, PID: me.pid, Aborted: true, Reason: clean(err.Error(), maxReason), cause: err}
	if me != zero && zero != nil {
		// Rank 0 decides which failure was the first, so that all agree.
		zero.link.send(failure(l))
		select {
		case <-w.failed:
		case <-zero.link.gone:
		case <-time.After(told):
		}
	}
	w.fail(l)
	w.confirm()
}

// Leave is the orderly end of this rank's part: its silence is no loss from here
// on, and the others go on. Rank 0 goes on to tell them of failures until Close;
// when it closes, they are no longer watched.
func (w *Watch) Leave() {
	w.mu.Lock()
	me := w.peers[w.cfg.Rank]
	done := me.left || w.lost != nil
	if !done {
		me.left = true
		w.toAll(message{Kind: kindBye})
	}
	w.mu.Unlock()
	if !done {
		w.confirm()
	}
}

// Close ends all connections and goroutines. Without Leave, Abort or a failure
// before it, the others take this rank as lost.
func (w *Watch) Close() error {
	w.mu.Lock()
	first, failed := !w.closed, w.lost != nil
	w.mu.Unlock()
	if first && failed {
		w.confirm()
	}
	w.mu.Lock()
	first = !w.closed
	w.closed = true
	if first {
		close(w.stop)
		if w.hub != nil {
			w.hub.Close()
		}
		for conn := range w.pending {
			conn.Close()
		}
		for _, p := range w.peers {
			if p != nil && p.link != nil {
				p.link.close()
			}
		}
	}
	w.mu.Unlock()
	w.wg.Wait()
	return nil
}

// confirm waits until the others have answered a failure or a goodbye: a process
// that ends before may take its words with it.
func (w *Watch) confirm() {
	w.mu.Lock()
	var links []*link
	for _, p := range w.peers {
		if p.listens() {
			links = append(links, p.link)
		}
	}
	w.mu.Unlock()
	limit := time.NewTimer(told)
	defer limit.Stop()
	for _, l := range links {
		select {
		case <-l.answer():
		case <-l.gone:
		case <-w.stop:
			return
		case <-limit.C:
			return
		}
	}
}

// fail records the first failure and tells all that are there.
func (w *Watch) fail(l *Lost) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failLocked(l)
}

func (w *Watch) failLocked(l *Lost) {
	if w.lost != nil || w.closed {
		return
	}
	w.lost = l
	w.toAll(failure(l))
	close(w.failed)
}

// toAll puts a message into every link's queue. The caller holds mu.
func (w *Watch) toAll(m message) {
	for _, p := range w.peers {
		if p.listens() {
			p.link.send(m)
		}
	}
}

// life sends and expects signs of life until Close.
func (w *Watch) life() {
	tick := time.NewTicker(w.cfg.Interval)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-w.stop:
			return
		case <-tick.C:
		}
		now := time.Now()
		w.mu.Lock()
		// This process itself stood still: what the others sent in the meantime
		// is still unread, and their silence means nothing.
		slept := now.Sub(last) > w.cfg.Interval+w.cfg.Patience/2
		last = now
		me := w.peers[w.cfg.Rank]
		for _, p := range w.peers {
			if !p.listens() {
				continue
			}
			if slept {
				p.heard = now
			}
			if silent := now.Sub(p.heard); silent > w.cfg.Patience && !p.left && !me.gone(w) {
				w.failLocked(&Lost{Rank: p.rank, Host: p.host, PID: p.pid,
					Reason: fmt.Sprintf("has been silent for %s: stopped, or its network is down", silent.Round(w.cfg.Interval))})
			}
			p.link.send(w.beat())
		}
		w.mu.Unlock()
	}
}

// gone says whether what becomes of the others is no longer this rank's matter:
// one that has left, other than rank 0, which goes on for the others.
func (p *peer) gone(w *Watch) bool { return p.left && w.cfg.Rank != 0 }

// beat is a sign of life. The caller holds mu.
func (w *Watch) beat() message {
	me := w.peers[w.cfg.Rank]
	return message{Kind: kindBeat, Step: me.step}
}

// hear reads what a peer sends until its connection ends.
func (w *Watch) hear(p *peer) {
	defer close(p.link.gone)
	for {
		m, err := p.link.read()
		w.mu.Lock()
		if err != nil {
			if !p.left && !w.peers[w.cfg.Rank].gone(w) {
				w.failLocked(&Lost{Rank: p.rank, Host: p.host, PID: p.pid, Reason: ending(err)})
			}
			w.mu.Unlock()
			p.link.close()
			return
		}
		p.heard = time.Now()
		w.heed(p, m)
		w.mu.Unlock()
	}
}

// heed does what a message asks for. The caller holds mu.
func (w *Watch) heed(p *peer, m message) {
	switch m.Kind {
	case kindBeat:
		p.reported(m.Step)
	case kindGo:
		if p.rank == 0 && w.joined == 1 {
			w.joined = w.cfg.Size
			close(w.together)
		}
	case kindRefuse:
		if p.rank == 0 && w.joined == 1 {
			w.failLocked(&Lost{Rank: -1, Reason: w.refused(m)})
		}
	case kindFail: // news, or the answer to what this rank said
		if w.lost == nil {
			w.failLocked(&Lost{Rank: m.Rank, Host: m.Host, PID: m.PID, Aborted: m.Aborted, Reason: m.Reason})
		}
		p.link.answered()
	case kindAck:
		p.link.answered()
	case kindBye:
		p.left = true
		if p.rank == 0 {
			p.link.send(message{Kind: kindAck})
			break
		}
		p.link.close() // its end is the answer
	}
}
