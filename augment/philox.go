package augment

// Philox4x32-10: a counter-based generator (Salmon et al., "Parallel Random
// Numbers: As Easy as 1, 2, 3", SC11). Four words of output are a function of
// four counter words and two key words, so any draw can be made at any time by
// any worker without state.

const (
	philoxM0 = 0xD2511F53
	philoxM1 = 0xCD9E8D57
	philoxW0 = 0x9E3779B9 // golden ratio
	philoxW1 = 0xBB67AE85 // sqrt(3) - 1
)

// Philox returns the four random words at counter ctr under key.
func Philox(ctr [4]uint32, key [2]uint32) [4]uint32 {
	c0, c1, c2, c3 := ctr[0], ctr[1], ctr[2], ctr[3]
	k0, k1 := key[0], key[1]
	for range 10 {
		p0 := uint64(philoxM0) * uint64(c0)
		p1 := uint64(philoxM1) * uint64(c2)
		c0, c1, c2, c3 = uint32(p1>>32)^c1^k0, uint32(p1), uint32(p0>>32)^c3^k1, uint32(p0)
		k0 += philoxW0
		k1 += philoxW1
	}
	return [4]uint32{c0, c1, c2, c3}
}

// Purpose keeps draws for different ends apart under one seed.
type Purpose uint32

const (
	PurposeView    Purpose = iota // parameters of one view
	PurposeOrder                  // order of the samples within an epoch
	PurposeReplace                // stand-ins for unreadable samples
	PurposeSplit                  // choice of held-out samples
	PurposeMoment                 // other frames of a sample's clip
)

// Key names the place of a draw: the same key gives the same numbers on every
// machine, whatever the number of workers and ranks.
type Key struct {
	Seed   uint64
	Epoch  int
	Sample uint64 // stable identity of the sample, not its position
	View   int    // 0 <= View < 65536, over all crop groups
}

// Words returns block number block (0 to 4095) of the key's random words.
func (k Key) Words(p Purpose, block int) [4]uint32 {
	return Philox(
		[4]uint32{
			uint32(p)<<28 | uint32(k.View&0xffff)<<12 | uint32(block&0xfff),
			uint32(k.Epoch),
			uint32(k.Sample),
			uint32(k.Sample >> 32),
		},
		[2]uint32{uint32(k.Seed), uint32(k.Seed >> 32)},
	)
}

// unit maps a word to [0, 1).
func unit(w uint32) float64 { return float64(w) * (1.0 / (1 << 32)) }

// below maps a word to an integer in [0, n). The bias is n/2^32 at most.
func below(w uint32, n int) int { return int(uint64(w) * uint64(n) >> 32) }

// between maps a word to [lo, hi). The conversion keeps compilers from fusing
// the product with the sum, which would differ between CPUs.
func between(w uint32, lo, hi float64) float64 { return lo + float64(unit(w)*(hi-lo)) }
