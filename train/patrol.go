package train

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// progress is a dist.Comm that knows of the ranks while they wait for each other.
type progress interface {
	// Arrived says that this rank has the data of a step, a number that grows.
	Arrived(step int)
	// Late names the ranks for whose data of a step the others have waited at least after.
	Late(after time.Duration) []string
}

// How long data may keep the others waiting until the rank is named, and how often that is
// looked at.
const (
	lateAfter = 30 * time.Second
	lateTick  = 10 * time.Second
)

// patrol names ranks whose data do not come, while they do not: a source that hangs would
// hold up all ranks without a word. It looks until ctx ends.
func patrol(ctx context.Context, p progress, warn func(string)) {
	tick := time.NewTicker(lateTick)
	defer tick.Stop()
	var named []string
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		late := p.Late(lateAfter)
		for _, name := range late {
			if !slices.Contains(named, name) {
				warn(fmt.Sprintf("%s keeps the others waiting for its data, %v so far: its source is slow or hangs", name, lateAfter))
			}
		}
		named = late
	}
}
