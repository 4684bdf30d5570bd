package operator

import (
	"crypto/sha1"
	"math/big"
)

// backoffOf is base + sha1(text) mod base.
func backoffOf(text string, base int64) int64 {
	s := sha1.Sum([]byte(text))
	h := new(big.Int).SetBytes(s[:])
	return base + h.Mod(h, big.NewInt(base)).Int64()
}
