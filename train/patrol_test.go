package train

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// lateRanks is a group of which some are late in turn.
type lateRanks struct {
	begin time.Time
	from  map[string][2]time.Duration
}

func (l *lateRanks) Arrived(int) {}

func (l *lateRanks) Late(after time.Duration) (late []string) {
	now := time.Since(l.begin)
	for name, when := range l.from {
		if now >= when[0]+after && now < when[1] {
			late = append(late, name)
		}
	}
	return late
}

// A rank is named while its data do not come, once each time.
func TestPatrol(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ranks := &lateRanks{time.Now(), map[string][2]time.Duration{
			"rank 1": {0, 20 * time.Second}, "rank 2": {time.Minute, 10 * time.Minute}, "rank 3": {time.Hour, 2 * time.Hour},
		}}
		ctx, stop := context.WithCancel(t.Context())
		var said []string
		go patrol(ctx, ranks, func(s string) { said = append(said, s[:6]) })
		time.Sleep(30 * time.Minute)
		ranks.from["rank 2"] = [2]time.Duration{40 * time.Minute, 50 * time.Minute}
		time.Sleep(90 * time.Minute)
		stop()
		synctest.Wait()
		if want := []string{"rank 2", "rank 2", "rank 3"}; !slices.Equal(said, want) {
			t.Errorf("named %v, want %v", said, want)
		}
	})
}
