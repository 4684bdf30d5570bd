package scheduler

import mathbits "math/bits"

// bits is a set of small integers of fixed capacity.
type bits []uint64

func newBits(n int) bits { return make(bits, (n+63)/64) }

func (b bits) set(i int32)      { b[i>>6] |= 1 << (i & 63) }
func (b bits) clear(i int32)    { b[i>>6] &^= 1 << (i & 63) }
func (b bits) has(i int32) bool { return b[i>>6]&(1<<(i&63)) != 0 }

func (b bits) or(o bits) {
	for i, w := range o {
		b[i] |= w
	}
}

// each calls f for every member in ascending order.
func (b bits) each(f func(int32)) {
	for i, w := range b {
		for w != 0 {
			f(int32(i<<6 + mathbits.TrailingZeros64(w)))
			w &= w - 1
		}
	}
}

// orderedSet is a growing set of positions that finds the next member quickly:
// a bitmap and a bitmap of its non-empty words.
type orderedSet struct {
	words   bits
	summary bits
}

func (s *orderedSet) grow(n int32) {
	for int32(len(s.words))*64 < n {
		s.words = append(s.words, 0)
	}
	for len(s.summary)*64 < len(s.words) {
		s.summary = append(s.summary, 0)
	}
}

func (s *orderedSet) has(i int32) bool { return s.words.has(i) }

func (s *orderedSet) put(i int32, in bool) {
	w := i >> 6
	if in {
		s.words.set(i)
		s.summary.set(w)
		return
	}
	s.words.clear(i)
	if s.words[w] == 0 {
		s.summary.clear(w)
	}
}

// next returns the smallest member that is at least from, or -1.
func (s *orderedSet) next(from int32) int32 {
	w := from >> 6
	if int(w) >= len(s.words) {
		return -1
	}
	if x := s.words[w] >> (from & 63); x != 0 {
		return from + int32(mathbits.TrailingZeros64(x))
	}
	w++
	for k := w >> 6; int(k) < len(s.summary); k++ {
		x := s.summary[k]
		if k == w>>6 {
			x = x >> (w & 63) << (w & 63)
		}
		if x != 0 {
			i := k<<6 + int32(mathbits.TrailingZeros64(x))
			return i<<6 + int32(mathbits.TrailingZeros64(s.words[i]))
		}
	}
	return -1
}
