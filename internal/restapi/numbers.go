package restapi

import (
	"hash/fnv"
	"time"
)

// Airflow's database numbers its rows; Gust's items have texts for ids. The
// numbers that answers show for them are made from what an item is, so that they
// stay the same and fit a double.

// numbersFrom is where the numbers of what happened begin.
var numbersFrom = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// numberAt is the number of something that happened: in the order of time, three
// bits telling apart what happened in one microsecond.
func numberAt(t time.Time, id string) int64 {
	return t.Sub(numbersFrom).Microseconds()<<3 | int64(hashOf(id)&7)
}

// timeOfNumber is when that of a number happened.
func timeOfNumber(n int64) time.Time {
	return numbersFrom.Add(time.Duration(n>>3) * time.Microsecond)
}

// numberOf is the number of something that has a name.
func numberOf(name string) int64 { return int64(hashOf(name) >> 12) }

func hashOf(s string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s)) // never fails
	// FNV's low bits are good, its high bits of short texts are not.
	x := h.Sum64()
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	return x ^ x>>32
}
