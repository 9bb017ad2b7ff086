package watch

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	tokenBytes   = 16
	maxAddresses = 16               // of a host
	greeting     = 10 * time.Second // for a caller to say who it is
)

// Hub is rank 0's listening end before the group has come together.
type Hub struct {
	listener net.Listener
	address  string
	token    []byte
}

// Listen opens rank 0's end on all addresses of this host. Port 0 takes any.
func Listen(port int) (*Hub, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort("", strconv.Itoa(port)))
	if err != nil {
		return nil, fmt.Errorf("watch: %w", err)
	}
	hosts, err := hostAddresses()
	if err != nil {
		listener.Close()
		return nil, fmt.Errorf("watch: addresses of this host: %w", err)
	}
	return newHub(listener, hosts), nil
}

func newHub(listener net.Listener, hosts []string) *Hub {
	h := &Hub{listener: listener, token: make([]byte, tokenBytes)}
	rand.Read(h.token) // never fails
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		port = "0"
	}
	var places []string
	for _, host := range hosts {
		places = append(places, net.JoinHostPort(host, port))
	}
	h.address = strings.Join(places, ",") + "/" + hex.EncodeToString(h.token)
	return h
}

// Address is what the other ranks need to find this one: where it may be reached,
// and a secret. It is text of less than 1,000 bytes.
func (h *Hub) Address() string { return h.address }

// Close ends the listening of a hub that Start was never given.
func (h *Hub) Close() error { return h.listener.Close() }

// hostAddresses lists the addresses by which this host may be reached.
func hostAddresses() ([]string, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var out, loop []string
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		switch {
		case !ok || n.IP.IsLinkLocalUnicast() || n.IP.IsMulticast() || n.IP.IsUnspecified():
		case n.IP.IsLoopback():
			loop = append(loop, n.IP.String())
		default:
			out = append(out, n.IP.String())
		}
	}
	// Loopback is for a host without any other and for sandboxes; at most two.
	loop = loop[:min(len(loop), 2)]
	out = append(out[:min(len(out), maxAddresses-len(loop))], loop...)
	if len(out) == 0 {
		return nil, errors.New("there are none, not even 127.0.0.1")
	}
	return out, nil
}

// split takes apart what Address put together.
func split(address string) (places []string, token []byte, err error) {
	hosts, secret, ok := strings.Cut(address, "/")
	token, err = hex.DecodeString(secret)
	if !ok || err != nil || len(token) != tokenBytes {
		return nil, nil, errors.New("watch: the address of rank 0 is not one that its hub gave")
	}
	places = strings.Split(hosts, ",")
	if len(places) > maxAddresses {
		return nil, nil, fmt.Errorf("watch: %d addresses of rank 0", len(places))
	}
	for _, p := range places {
		if _, _, err := net.SplitHostPort(p); err != nil {
			return nil, nil, fmt.Errorf("watch: address of rank 0: %w", err)
		}
	}
	return places, token, nil
}

// keys are what the two sides show each other. They are made from the token, which
// itself is never sent: an address may lead to a stranger.
type keys struct{ call, reply string }

func makeKeys(token []byte) keys {
	sign := func(what string) string {
		h := hmac.New(sha256.New, token)
		h.Write([]byte(what))
		return hex.EncodeToString(h.Sum(nil))
	}
	return keys{call: sign("call"), reply: sign("reply")}
}

// gather is rank 0's part of the joining.
func (w *Watch) gather(ctx context.Context) error {
	if w.cfg.Size > 1 && w.cfg.Hub == nil {
		return errors.New("watch: rank 0 of several needs a Hub")
	}
	if w.cfg.Hub != nil {
		w.hub = w.cfg.Hub.listener
		w.keys = makeKeys(w.cfg.Hub.token)
		defer w.hub.Close()
	}
	if w.cfg.Size == 1 {
		return nil
	}
	w.wg.Go(w.life)
	w.wg.Go(w.accept)
	limit := time.NewTimer(w.cfg.Join)
	defer limit.Stop()
	select {
	case <-w.together:
		return nil
	case <-w.failed:
	case <-ctx.Done():
		w.fail(&Lost{Rank: 0, Host: w.cfg.Host, PID: os.Getpid(), Aborted: true, Reason: clean(ctx.Err().Error(), maxReason), cause: ctx.Err()})
	case <-limit.C:
		w.mu.Lock()
		w.failLocked(&Lost{Rank: -1, Reason: w.missing()})
		w.mu.Unlock()
	}
	return w.Err()
}

// missing names the ranks that have not come. The caller holds mu.
func (w *Watch) missing() string {
	const most = 8
	var names []string
	n := 0
	for r, p := range w.peers {
		if p == nil {
			if n++; n <= most {
				names = append(names, strconv.Itoa(r))
			}
		}
	}
	what := "rank " + names[0]
	switch {
	case n > most:
		what = fmt.Sprintf("ranks %s and %d more", strings.Join(names, ", "), n-most)
	case n > 1:
		what = "ranks " + strings.Join(names[:n-1], ", ") + " and " + names[n-1]
	}
	return fmt.Sprintf("%s of %d did not reach rank 0 (host %s) within %s: not started, or a firewall is between", what, w.cfg.Size, w.cfg.Host, w.cfg.Join)
}

// accept takes in callers until all ranks have joined.
func (w *Watch) accept() {
	for {
		conn, err := w.hub.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // too many open files: some of them are strangers' and will close
			select {
			case <-w.stop:
				return
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		w.mu.Lock()
		// A rank calls by every address at once; more are strangers, and a rank
		// that is turned away calls again.
		full := w.closed || len(w.pending) >= 64+4*w.cfg.Size
		if !full {
			w.pending[conn] = true
			w.wg.Go(func() { w.greet(conn) })
		}
		w.mu.Unlock()
		if full {
			conn.Close()
		}
	}
}

// greet finds out who called. A rank becomes part of the group by its join, on the
// one of its connections that was answered first.
func (w *Watch) greet(conn net.Conn) {
	l := newLink(conn, greeting)
	p, refusal := w.meet(l)
	w.mu.Lock()
	delete(w.pending, conn)
	w.mu.Unlock()
	if refusal != "" {
		l.put(message{Kind: kindRefuse, Reason: refusal})
	}
	if p == nil {
		conn.Close()
		return
	}
	w.wg.Go(l.write)
	w.hear(p)
}

// meet returns the peer that has joined by this link, or nil, with a reason where
// the caller belongs to the group.
func (w *Watch) meet(l *link) (*peer, string) {
	l.conn.SetReadDeadline(time.Now().Add(greeting))
	m, err := l.read()
	if err != nil || m.Kind != kindHello || !hmac.Equal([]byte(m.Key), []byte(w.keys.call)) {
		return nil, ""
	}
	switch {
	case m.Version != version:
		return nil, fmt.Sprintf("it speaks version %d of the ranks' messages, rank 0 version %d: run the same swav everywhere", m.Version, version)
	case m.Size != w.cfg.Size:
		return nil, fmt.Sprintf("it counts %d ranks, rank 0 counts %d", m.Size, w.cfg.Size)
	case m.Rank < 1 || m.Rank >= w.cfg.Size:
		return nil, fmt.Sprintf("there is a rank 0 (host %s, process %d) already", w.cfg.Host, os.Getpid())
	}
	if err := l.put(message{Kind: kindWelcome, Key: w.keys.reply, Host: w.cfg.Host, PID: os.Getpid()}); err != nil {
		return nil, ""
	}
	if reply, err := l.read(); err != nil || reply.Kind != kindJoin {
		return nil, ""
	}
	l.conn.SetReadDeadline(time.Time{})
	l.patience = w.cfg.Patience

	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lost != nil {
		return nil, w.lost.Error()
	}
	if other := w.peers[m.Rank]; other != nil {
		return nil, fmt.Sprintf("there is a rank %d (host %s, process %d) already", m.Rank, other.host, other.pid)
	}
	if w.closed {
		return nil, ""
	}
	now := time.Now()
	p := &peer{rank: m.Rank, host: m.Host, pid: m.PID, link: l, heard: now, moved: now}
	w.peers[m.Rank] = p
	if w.joined++; w.joined == w.cfg.Size {
		w.toAll(message{Kind: kindGo})
		close(w.together)
	}
	return p, ""
}

// join is the others' part: find rank 0, then wait for the rest.
func (w *Watch) join(ctx context.Context) error {
	places, token, err := split(w.cfg.Address)
	if err != nil {
		return err
	}
	w.keys = makeKeys(token)
	// Rank 0 knows who is missing: it speaks first.
	limited, cancel := context.WithTimeout(ctx, w.cfg.Join+told)
	defer cancel()
	l, m, err := w.find(limited, places)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return err
	}
	now := time.Now()
	zero := &peer{rank: 0, host: m.Host, pid: m.PID, link: l, heard: now, moved: now}
	w.mu.Lock()
	w.peers[0] = zero
	w.mu.Unlock()
	l.send(message{Kind: kindJoin})
	w.wg.Go(l.write)
	w.wg.Go(func() { w.hear(zero) })
	w.wg.Go(w.life)
	select {
	case <-w.together:
		return nil
	case <-w.failed:
		return w.Err()
	case <-limited.Done():
		if ctx.Err() != nil {
			w.Abort(ctx.Err())
			return ctx.Err()
		}
		return fmt.Errorf("the other ranks did not come within %s", w.cfg.Join)
	}
}

// find calls rank 0 by all its addresses at once and keeps the one that answers
// first: others may lead nowhere, or to a stranger.
func (w *Watch) find(ctx context.Context, places []string) (*link, message, error) {
	ctx, cancel := context.WithCancel(ctx)
	type answer struct {
		l   *link
		m   message
		err error
	}
	answers := make(chan answer)
	for _, place := range places {
		w.wg.Go(func() {
			pause := 50 * time.Millisecond
			for {
				l, m, err := w.call(ctx, place)
				select {
				case answers <- answer{l, m, err}:
				case <-ctx.Done():
					if l != nil {
						l.conn.Close()
					}
					return
				}
				select {
				case <-ctx.Done():
					return
				case <-time.After(pause):
				}
				pause = min(2*pause, time.Second)
			}
		})
	}
	defer cancel()
	var last error
	for {
		select {
		case a := <-answers:
			if a.l != nil {
				if a.m.Kind == kindRefuse {
					a.l.conn.Close()
					return nil, a.m, errors.New(w.refused(a.m))
				}
				return a.l, a.m, nil
			}
			last = a.err
		case <-ctx.Done():
			if last == nil {
				last = errors.New("no answer")
			}
			return nil, message{}, fmt.Errorf("rank %d (host %s) cannot reach rank 0 at %s within %s: %w: has rank 0 ended, or is a firewall between",
				w.cfg.Rank, w.cfg.Host, strings.Join(places, ", "), w.cfg.Join, last)
		}
	}
}

func (w *Watch) refused(m message) string {
	return fmt.Sprintf("rank 0 does not take rank %d: %s", w.cfg.Rank, m.Reason)
}

// call says hello at one address. The answer is rank 0's welcome or refusal.
func (w *Watch) call(ctx context.Context, place string) (*link, message, error) {
	conn, err := w.cfg.dial(ctx, place)
	if err != nil {
		return nil, message{}, err
	}
	// Rank 0 may not be there yet, so an answer may take as long as the joining.
	done := context.AfterFunc(ctx, func() { conn.Close() })
	l := newLink(conn, w.cfg.Patience)
	err = l.put(message{Kind: kindHello, Version: version, Key: w.keys.call, Rank: w.cfg.Rank, Size: w.cfg.Size, Host: w.cfg.Host, PID: os.Getpid()})
	var m message
	if err == nil {
		m, err = l.read()
	}
	if err == nil && m.Kind != kindRefuse && (m.Kind != kindWelcome || !hmac.Equal([]byte(m.Key), []byte(w.keys.reply))) {
		err = fmt.Errorf("%s is not rank 0 of this run", place)
	}
	if !done() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		conn.Close()
		return nil, message{}, err
	}
	return l, m, nil
}
