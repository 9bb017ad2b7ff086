package loader

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"slices"
	"strings"
	"testing"

	"swav/dataset"
)

// tape is a stream of n small images, some of them broken.
type tape struct {
	n, at  int
	broken map[int]bool
	err    error // at the end, instead of io.EOF
}

func (s *tape) Name() string       { return "tape" }
func (s *tape) Channels() int      { return 3 }
func (s *tape) Close() error       { return nil }
func (s *tape) Mark() dataset.Mark { return dataset.Mark{Record: int64(s.at)} }
func (s *tape) Seek(_ context.Context, to dataset.Mark) error {
	s.at = int(to.Record)
	return nil
}
func (s *tape) Next(ctx context.Context) (*dataset.Record, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if s.at >= s.n {
		if s.err != nil {
			return nil, s.err
		}
		return nil, io.EOF
	}
	r := &dataset.Record{ID: fmt.Sprint(s.at), Label: fmt.Sprint(s.at % 3), Data: []byte("broken on purpose")}
	if !s.broken[s.at] {
		m := image.NewGray(image.Rect(0, 0, 9, 8))
		for i := range m.Pix {
			m.Set(i%9, i/9, color.Gray{byte(s.at*31 + i*i)})
		}
		var b bytes.Buffer
		if err := png.Encode(&b, m); err != nil {
			return nil, err
		}
		r.Data = b.Bytes()
	}
	s.at++
	return r, nil
}

// played is a batch of a stream: the images' names and first views.
type played struct {
	ids   []string
	views [][]float32
	after StreamPosition
}

// play reads n batches, fewer where the stream ends, and what ended it.
func play(t *testing.T, s dataset.Stream, c Config, buffer int, from *StreamPosition, n int) (out []played, end error) {
	t.Helper()
	l, err := NewStream(s, buffer, c)
	if err != nil {
		t.Fatal(err)
	}
	l.StartStream(from)
	defer l.Close()
	for range n {
		b, err := l.Next(context.Background())
		if err != nil {
			return out, err
		}
		p := played{after: *b.After}
		for _, r := range b.records {
			p.ids = append(p.ids, r.ID)
		}
		for _, g := range b.Groups {
			p.views = append(p.views, slices.Clone(g))
		}
		b.Release()
		out = append(out, p)
	}
	return out, nil
}

func samePlayed(a, b played) bool {
	return slices.Equal(a.ids, b.ids) && slices.EqualFunc(a.views, b.views, slices.Equal[[]float32]) && a.after == b.after
}

// A stream gives every image once, shuffled within blocks, and a run that goes
// on from any position sees what an uninterrupted one sees, whatever the workers.
func TestStreamResumesExactly(t *testing.T) {
	broken := map[int]bool{7: true, 41: true}
	c := config()
	c.Accumulate, c.MaxSkip = 2, 0.2
	all, end := play(t, &tape{n: 107, broken: broken}, c, 30, nil, 100)
	if !errors.Is(end, io.EOF) || len(all) != 26 {
		t.Fatalf("%d batches of 4, ended by %v; want 26 (whole steps of 8 of 107 images)", len(all), end)
	}
	seen := map[string]bool{}
	shuffled := false
	for i, b := range all {
		for k, id := range b.ids {
			shuffled = shuffled || id != fmt.Sprint(i*4+k)
			if seen[id] {
				t.Errorf("image %s comes twice", id)
			}
			seen[id] = true
		}
	}
	if len(seen) != 104 || !shuffled {
		t.Errorf("%d images, shuffled: %v", len(seen), shuffled)
	}
	c.Workers = 5
	for at := 2; at < 26; at += 2 {
		p := all[at-1].after
		rest, _ := play(t, &tape{n: 107, broken: broken}, c, 30, &p, 5)
		for i, b := range rest {
			if !samePlayed(b, all[at+i]) {
				t.Fatalf("from batch %d on, batch %d differs: %v, want %v", at, at+i, b.ids, all[at+i].ids)
			}
		}
	}
	// Ranks share what one rank would see.
	c.Accumulate, c.Batch, c.Ranks = 1, 4, 2
	for c.Rank = range c.Ranks {
		part, _ := play(t, &tape{n: 107, broken: broken}, c, 30, nil, 13)
		for i, b := range part {
			if want := all[2*i+c.Rank].ids; !slices.Equal(b.ids, want) {
				t.Errorf("rank %d, step %d: %v, want %v", c.Rank, i, b.ids, want)
			}
		}
	}
}

func TestStreamTroubles(t *testing.T) {
	c := config()
	var skipped []string
	c.OnSkip = func(id string, err error) { skipped = append(skipped, id) }
	if _, end := play(t, &tape{n: 400, broken: map[int]bool{3: true, 9: true}}, c, 16, nil, 1000); !errors.Is(end, io.EOF) {
		t.Errorf("two bad ones of 400: %v", end)
	}
	slices.Sort(skipped)
	if !slices.Equal(skipped, []string{"3", "9"}) {
		t.Errorf("skipped %v", skipped)
	}
	bad := map[int]bool{}
	for i := range 200 {
		bad[i*2] = true
	}
	var many *TooManyError
	if _, end := play(t, &tape{n: 400, broken: bad}, c, 16, nil, 1000); !errors.As(end, &many) || !strings.Contains(end.Error(), "max_skip") {
		t.Errorf("half of them bad: %v", end)
	}
	boom := errors.New("boom")
	if got, end := play(t, &tape{n: 40, err: boom}, c, 16, nil, 1000); !errors.Is(end, boom) || len(got) != 10 {
		t.Errorf("an error after 40 images: %d batches, %v", len(got), end)
	}
	if _, end := play(t, &tape{n: 20}, c, 16, &StreamPosition{Block: dataset.Mark{Record: 16}, Number: 1, Size: 16, Done: 4}, 10); end == nil || !strings.Contains(end.Error(), "not there any more") {
		t.Errorf("a stream that has become shorter: %v", end)
	}
}

// What was read last can be looked at when training is over.
func TestStreamRecent(t *testing.T) {
	c := config()
	l, err := NewStream(&tape{n: 50}, 16, c)
	if err != nil {
		t.Fatal(err)
	}
	l.StartStream(nil)
	defer l.Close()
	src, err := l.Recent(context.Background())
	if err != nil || src.Len() != 16 || len(src.Classes()) != 3 {
		t.Errorf("%v, %v", src, err)
	}
	empty, err := NewStream(&tape{}, 16, c)
	if err != nil {
		t.Fatal(err)
	}
	empty.StartStream(nil)
	defer empty.Close()
	if src, err := empty.Recent(context.Background()); err != nil || src.Len() != 0 {
		t.Errorf("an empty stream: %v, %v", src, err)
	}
	if _, err := empty.Next(context.Background()); !errors.Is(err, io.EOF) {
		t.Errorf("an empty stream: %v", err)
	}
}
