package config

import (
	"fmt"
	"strconv"
)

// Values of train.sync_bn beside the size of groups.
const (
	SyncGlobal = "global"
	SyncOff    = "off"
)

// NormRanks is how many of a number of ranks share the statistics of batch norm. Groups
// must divide the ranks; where a group would be larger than all of them, all share.
func (r *Recipe) NormRanks(ranks int) (int, error) {
	const key = "train.sync_bn"
	switch s := r.Train.SyncBN; s {
	case SyncGlobal, "":
		return ranks, nil
	case SyncOff:
		return 1, nil
	default:
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > 1<<20 {
			return 0, &Error{Key: key, Msg: fmt.Sprintf("%s: %q: want global, off, or the size of a group of ranks, such as 8", key, s)}
		}
		if n > ranks {
			return ranks, nil
		}
		if ranks%n != 0 {
			return 0, &Error{Key: key, Msg: fmt.Sprintf("%s: groups of %d do not divide %d ranks: use a divisor, global or off", key, n, ranks)}
		}
		return n, nil
	}
}
