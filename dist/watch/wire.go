package watch

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"
)

// What is sent is lines of JSON, one message each.
const (
	version   = 1
	maxLine   = 8192    // bytes
	maxReason = 1024    // bytes of a reason, before JSON's escapes
	maxKey    = 64      // bytes
	maxHost   = 256     // bytes of a host's name
	maxRanks  = 1 << 20 // more is no group that exists
)

// The kinds of messages. A rank says hello, rank 0 welcomes it, it joins; when all
// have, rank 0 sends go.
const (
	kindHello   = "hello"
	kindWelcome = "welcome"
	kindRefuse  = "refuse" // rank 0 does not take this rank, for Reason
	kindJoin    = "join"
	kindGo      = "go"
	kindBeat    = "beat"
	kindFail    = "fail" // the group has failed; answered by the receiver's fail
	kindBye     = "bye"  // an orderly end; answered by rank 0's closing, or by ack
	kindAck     = "ack"
)

// message is one line. Which fields count hangs on Kind.
type message struct {
	Kind    string `json:"kind"`
	Version int    `json:"version,omitempty"` // hello
	Key     string `json:"key,omitempty"`     // hello, welcome: proof of the group
	Rank    int    `json:"rank,omitempty"`    // hello, welcome, fail
	Size    int    `json:"size,omitempty"`    // hello
	Host    string `json:"host,omitempty"`    // hello, welcome, fail
	PID     int    `json:"pid,omitempty"`     // hello, welcome, fail
	Step    int    `json:"step,omitempty"`    // beat
	Aborted bool   `json:"aborted,omitempty"` // fail
	Reason  string `json:"reason,omitempty"`  // fail, refuse
}

func failure(l *Lost) message {
	return message{Kind: kindFail, Rank: l.Rank, Host: l.Host, PID: l.PID, Aborted: l.Aborted, Reason: l.Reason}
}

// encode gives the line of a message, with its end.
func (m message) encode() []byte {
	line, err := json.Marshal(m)
	if err != nil { // no field can be the cause
		panic(err)
	}
	return append(line, '\n')
}

// parse reads a line. Texts come out fit for a log: short, one line, printable.
func parse(line []byte) (message, error) {
	var m message
	if len(line) > maxLine {
		return m, fmt.Errorf("a line of %d bytes", len(line))
	}
	if err := json.Unmarshal(line, &m); err != nil {
		return m, fmt.Errorf("not a message: %w", err)
	}
	switch m.Kind {
	case kindHello, kindWelcome, kindRefuse, kindJoin, kindGo, kindBeat, kindFail, kindBye, kindAck:
	default:
		return m, fmt.Errorf("a message of an unknown kind")
	}
	if m.Rank < -1 || m.Rank >= maxRanks || m.Size < 0 || m.Size > maxRanks ||
		m.PID < 0 || m.Step < 0 || len(m.Key) > maxKey {
		return m, fmt.Errorf("a message %q with numbers out of range", m.Kind)
	}
	m.Host, m.Reason = clean(m.Host, maxHost), clean(m.Reason, maxReason)
	return m, nil
}

// clean makes a text fit for one line of a log, at most size bytes long.
func clean(s string, size int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	s = strings.TrimSpace(s)
	if len(s) <= size {
		return s
	}
	const more = "…"
	cut := size - len(more)
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + more
}

// link is a connection with a queue before it, so that nobody waits for a peer
// that does not read.
type link struct {
	conn     net.Conn
	in       *bufio.Reader
	patience time.Duration // for one write
	gone     chan struct{} // closed when nothing more will be read
	wake     chan struct{} // holds one token: the queue or closed has changed

	mu     sync.Mutex
	queue  []message
	closed bool
	asked  chan struct{} // closed when the peer has answered the last fail or bye; nil: none was sent
	open   bool          // asked is not closed yet
}

func newLink(conn net.Conn, patience time.Duration) *link {
	return &link{
		conn: conn, in: bufio.NewReaderSize(conn, maxLine), patience: patience,
		gone: make(chan struct{}), wake: make(chan struct{}, 1),
	}
}

// send queues a message and returns at once. A sign of life that has not gone out
// yet is replaced by the next, so the queue stays short: beyond them, a few
// messages are sent in a link's life.
func (l *link) send(m message) {
	l.mu.Lock()
	if (m.Kind == kindFail || m.Kind == kindBye) && !l.open {
		l.asked, l.open = make(chan struct{}), true
	}
	if n := len(l.queue); n > 0 && m.Kind == kindBeat && l.queue[n-1].Kind == kindBeat {
		l.queue[n-1] = m
	} else if !l.closed {
		l.queue = append(l.queue, m)
	}
	l.mu.Unlock()
	l.poke()
}

func (l *link) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// write sends what is queued until the link closes.
func (l *link) write() {
	for range l.wake {
		l.mu.Lock()
		queue, closed := l.queue, l.closed
		l.queue = nil
		l.mu.Unlock()
		if closed {
			return
		}
		for _, m := range queue {
			if err := l.put(m); err != nil {
				l.close() // the reader sees it and says so
				return
			}
		}
	}
}

func (l *link) put(m message) error {
	l.conn.SetWriteDeadline(time.Now().Add(l.patience))
	_, err := l.conn.Write(m.encode())
	return err
}

// read waits for the next message.
func (l *link) read() (message, error) {
	line, err := l.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return message{}, fmt.Errorf("a line of more than %d bytes", maxLine)
	}
	if err != nil {
		return message{}, err
	}
	return parse(bytes.TrimSuffix(line, []byte("\n")))
}

// answer is closed when the peer has answered what it was told last.
func (l *link) answer() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.asked == nil {
		l.asked = make(chan struct{})
		close(l.asked)
	}
	return l.asked
}

func (l *link) answered() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open {
		l.open = false
		close(l.asked)
	}
}

func (l *link) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.conn.Close()
	l.poke()
}

// ending says what the end of a peer's connection means.
func ending(err error) string {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return "has ended without a word"
	}
	return "is out of reach: " + clean(err.Error(), maxReason)
}
