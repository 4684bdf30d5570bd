package mask

import "sort"

// index finds secrets in text. It never changes once made. Candidates are found
// by their first two bytes; secrets are few, so that most positions of a text
// cost one bit test.
type index struct {
	first  [1 << 13]byte // a bit per two-byte prefix
	start  [256]bool     // bytes that begin a secret
	by2    map[uint16][]string
	maxLen int
}

func newIndex(secrets map[string]bool) *index {
	ix := &index{by2: map[uint16][]string{}}
	for s := range secrets {
		p := uint16(s[0])<<8 | uint16(s[1])
		ix.first[p>>3] |= 1 << (p & 7)
		ix.start[s[0]] = true
		ix.by2[p] = append(ix.by2[p], s)
		ix.maxLen = max(ix.maxLen, len(s))
	}
	for _, l := range ix.by2 {
		// Longest first: the first match at a position covers the others.
		sort.Slice(l, func(i, j int) bool { return len(l[i]) > len(l[j]) })
	}
	return ix
}

func (ix *index) candidates(a, b byte) []string {
	p := uint16(a)<<8 | uint16(b)
	if ix.first[p>>3]&(1<<(p&7)) == 0 {
		return nil
	}
	return ix.by2[p]
}

type span struct{ from, to int }

// find returns the places of secrets in s that begin before limit, in order;
// overlapping ones are merged.
func (ix *index) find(s string, limit int) []span {
	var out []span
	for i := 0; i < limit && i+1 < len(s); i++ {
		for _, c := range ix.candidates(s[i], s[i+1]) {
			if len(c) > len(s)-i || s[i:i+len(c)] != c {
				continue
			}
			end := i + len(c)
			if n := len(out); n > 0 && out[n-1].to > i {
				out[n-1].to = max(out[n-1].to, end)
			} else {
				out = append(out, span{i, end})
			}
			break
		}
	}
	return out
}

// pending returns where the longest end of s begins that could be the beginning
// of a secret, len(s) if there is none.
func (ix *index) pending(s string) int {
	for i := max(0, len(s)-ix.maxLen+1); i < len(s); i++ {
		if i == len(s)-1 {
			if ix.start[s[i]] {
				return i
			}
			break
		}
		rest := s[i:]
		for _, c := range ix.candidates(s[i], s[i+1]) {
			if len(c) > len(rest) && c[:len(rest)] == rest {
				return i
			}
		}
	}
	return len(s)
}

// replace appends s to dst with the spans replaced.
func replace(dst []byte, s string, spans []span) []byte {
	at := 0
	for _, sp := range spans {
		dst = append(dst, s[at:sp.from]...)
		dst = append(dst, Replacement...)
		at = sp.to
	}
	return append(dst, s[at:]...)
}
