// Package pmi brings ranks of MPICH together without a launcher: a server in rank
// 0's process speaks PMI-1, the lines of text by which MPICH's library asks its
// launcher who and where the others are. It serves ranks that know their numbers
// and rank 0's address from elsewhere, such as torchrun's variables.
//
// Where the words are from: MPICH's client, src/pmi/simple/simple_pmi.c. Ports and
// names of MPI-2, and the spawning of processes, are not served.
//
// PMI-1 has no secrets: who reaches the port may call itself a rank that has not
// come yet. What they can make the server keep is bounded.
package pmi

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// Lines are at most maxLine bytes, MPICH's own limit; names are shorter, so that a
// put fits into one.
const (
	maxLine  = 1024
	maxName  = 64  // of the store, and of a key
	maxValue = 800 // bytes
	maxRanks = 1 << 20
	maxNote  = 2048
	maxReply = 4 * maxNote // a line of this package's own
	store    = "swav"      // the name of the only store
)

// Env is the variables by which MPI_Init calls the server at addr (host:port) by
// itself. The host must be a name or an IPv4 address: MPICH takes no other. Join
// is the better way, as it waits until all ranks have come and names those that
// have not; MPI_Init does neither.
func Env(addr string, rank, size int) ([]string, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("pmi: %w", err)
	}
	if strings.Contains(host, ":") {
		return nil, fmt.Errorf("pmi: MPICH cannot call an IPv6 address by itself (%s)", addr)
	}
	return []string{"PMI_PORT=" + addr, "PMI_ID=" + strconv.Itoa(rank), "PMI_RANK=" + strconv.Itoa(rank), "PMI_SIZE=" + strconv.Itoa(size)}, nil
}

// fields are a line's words: name=value, separated by spaces.
type fields map[string]string

// parse reads a line without its end.
func parse(line string) (fields, error) {
	const most = 16 // words
	f := fields{}
	for word := range strings.FieldsSeq(line) {
		name, value, ok := strings.Cut(word, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("%.40q is not name=value", word)
		}
		if len(f) == most {
			return nil, fmt.Errorf("a line of more than %d words", most)
		}
		f[name] = value
	}
	return f, nil
}

// number reads a word that is a number from 0 to below limit.
func (f fields) number(name string, limit int) (int, error) {
	n, err := strconv.Atoi(f[name])
	if err != nil || n < 0 || n >= limit {
		return 0, fmt.Errorf("%s is %.20q, not a number from 0 to %d", name, f[name], limit-1)
	}
	return n, nil
}

// readLine reads a line of at most the reader's size.
func readLine(in *bufio.Reader) (fields, error) {
	line, err := in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return nil, fmt.Errorf("a line of more than %d bytes", in.Size())
	}
	if err != nil {
		return nil, err
	}
	return parse(string(line[:len(line)-1]))
}

// Words of this package's own carry free text.
func quote(s string) string { return url.QueryEscape(s) }

func unquote(s string) string {
	u, err := url.QueryUnescape(s)
	if err != nil {
		return s
	}
	return u
}
