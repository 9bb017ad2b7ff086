package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Duration is a length of training in steps or in epochs. In a recipe it is
// written "10 epochs" or "313 steps"; a bare whole number means steps.
type Duration struct {
	n      float64
	epochs bool
}

// Steps is a duration of n steps.
func Steps(n int) Duration { return Duration{n: float64(n)} }

// Epochs is a duration of n passes over the data.
func Epochs(n float64) Duration { return Duration{n: n, epochs: true} }

// maxDuration bounds both units, so that a product with the steps of an epoch
// stays an exact integer.
const maxDuration = 1e9

// Resolve is the duration in steps, rounded to the nearest.
func (d Duration) Resolve(stepsPerEpoch int) int {
	if !d.epochs {
		return int(d.n)
	}
	return int(math.Round(d.n * float64(stepsPerEpoch)))
}

// IsZero tells whether the duration is nothing, in either unit.
func (d Duration) IsZero() bool { return d.n == 0 }

// Equal tells whether two durations are the same whatever the data: nothing
// in steps is nothing in epochs.
func (d Duration) Equal(e Duration) bool { return d == e || d.n == 0 && e.n == 0 }

func (d Duration) String() string {
	unit := "step"
	if d.epochs {
		unit = "epoch"
	}
	if d.n != 1 {
		unit += "s"
	}
	return strconv.FormatFloat(d.n, 'f', -1, 64) + " " + unit
}

// MarshalText writes "10 epochs".
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads "10 epochs", "0.5 epochs", "313 steps" or "313".
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := ParseDuration(string(text))
	if err == nil {
		*d = v
	}
	return err
}

// ParseDuration reads "10 epochs", "0.5 epochs", "313 steps" or "313".
func ParseDuration(s string) (Duration, error) {
	bad := func() (Duration, error) {
		return Duration{}, fmt.Errorf(`%q is not a duration: write "10 epochs" or "313 steps"`, s)
	}
	fields := strings.Fields(s)
	if len(fields) < 1 || len(fields) > 2 {
		return bad()
	}
	n, err := strconv.ParseFloat(fields[0], 64)
	if err != nil || !(n >= 0 && n <= maxDuration) {
		return bad()
	}
	d := Duration{n: n + 0} // -0 becomes 0
	if len(fields) == 2 {
		switch strings.ToLower(fields[1]) {
		case "step", "steps":
		case "epoch", "epochs":
			d.epochs = true
		default:
			return bad()
		}
	}
	if !d.epochs && n != math.Trunc(n) {
		return Duration{}, fmt.Errorf("%q: steps are whole numbers", s)
	}
	return d, nil
}
